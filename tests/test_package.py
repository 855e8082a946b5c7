"""What the package is as a whole: quick to import, typed, without dependencies."""

import subprocess
import sys
from importlib import metadata
from importlib.resources import files
from types import SimpleNamespace

from strands.hooks import AfterInvocationEvent

import strands_token_telemetry
from strands_token_telemetry import emf, hook


def modules_after(code):
    """Return the names of all top-level modules that a new Python has imported after this code."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_import_loads_nothing_but_quick_modules_of_the_standard_library():
    # What is imported without it belongs to site: the hook of an editable install, for example.
    modules = modules_after("import strands_token_telemetry") - modules_after("pass")
    assert modules - sys.stdlib_module_names == {"strands_token_telemetry"}
    assert not {"inspect", "asyncio", "dataclasses"} & modules


def test_the_package_is_typed_and_has_no_dependencies():
    assert all("extra ==" in need for need in metadata.requires("strands-token-telemetry"))
    assert (files("strands_token_telemetry") / "py.typed").is_file()


def test_the_public_names_are_where_they_were_in_0_1_0():
    package = strands_token_telemetry
    assert {*package.__all__} == {"TokenUsageHook", "__version__", "build_emf_payload", "default_emitter"}
    assert package.__version__ == metadata.version("strands-token-telemetry")
    assert hook.TokenUsageHook is package.TokenUsageHook
    assert hook.default_emitter is package.default_emitter
    assert emf.build_emf_payload is package.build_emf_payload
    assert "Emitter" in hook.__all__


def test_a_registry_of_an_early_strands_gets_one_callback():
    """Before Strands 1.43, `add_callback` has no `order`."""
    callbacks = []
    registry = SimpleNamespace(
        add_callback=lambda event_type, callback: callbacks.append((event_type, callback)),
        add_hook=lambda provider: None,
    )
    provider = hook.TokenUsageHook()
    provider.register_hooks(registry, future="argument")
    assert callbacks == [(AfterInvocationEvent, provider._on_after_invocation)]
