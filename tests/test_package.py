"""What the package is as a whole: small to import, typed, without dependencies."""

import re
import subprocess
import sys
from importlib.metadata import metadata, requires, version
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, create_autospec

import pytest

import strands_token_telemetry
from strands_token_telemetry.emf import build_emf_payload
from strands_token_telemetry.hook import TokenUsageHook, default_emitter

ROOT = Path(__file__).parent.parent
ROOMS = ["hook", "usage", "emitters", "emf"]


def modules_after(code):
    """Return the names of all top-level modules that a new Python has imported after this code."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_package_imports_only_the_standard_library_and_of_it_nothing_slow():
    # What is imported without it belongs to site: the hook of an editable install, for example.
    modules = modules_after("import strands_token_telemetry") - modules_after("pass")
    assert modules - sys.stdlib_module_names == {"strands_token_telemetry"}
    assert not {"inspect", "asyncio", "dataclasses"} & modules


def test_the_version_is_stated_once():
    assert strands_token_telemetry.__version__ == version("strands-token-telemetry") == "0.1.0"
    found = [path for path in (ROOT / "src").rglob("*.py") if "0.1.0" in path.read_text()]
    assert [path.name for path in found] == ["__init__.py"]
    assert "0.1.0" not in (ROOT / "pyproject.toml").read_text()


def test_the_package_is_typed_and_needs_nothing_but_python_3_10():
    assert all("extra ==" in need for need in requires("strands-token-telemetry"))
    assert (files("strands_token_telemetry") / "py.typed").is_file()
    assert metadata("strands-token-telemetry")["Requires-Python"] == ">=3.10"
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert 'target-version = "py310"' in pyproject
    assert 'python_version = "3.10"' in pyproject


def test_the_import_paths_are_those_of_the_existing_package():
    public = (TokenUsageHook, "0.1.0", build_emf_payload, default_emitter)
    names = strands_token_telemetry.__all__
    assert tuple(getattr(strands_token_telemetry, name) for name in names) == public
    assert names == sorted(names)


@pytest.mark.parametrize("add_callback", [MagicMock(), create_autospec(lambda event_type, callback: None)])
def test_a_registry_gets_one_callback_for_the_event_after_an_invocation_whether_it_knows_order(add_callback):
    from strands.hooks import AfterInvocationEvent

    hook = TokenUsageHook()
    hook.register_hooks(SimpleNamespace(add_callback=add_callback), future="argument")
    ((arguments, _),) = add_callback.call_args_list
    assert arguments == (AfterInvocationEvent, hook._on_after_invocation)


@pytest.mark.parametrize("module", ROOMS)
def test_each_module_only_imports_those_below_it_and_only_the_hook_knows_strands(module):
    source = (ROOT / "src/strands_token_telemetry" / f"{module}.py").read_text()
    imported = re.findall(r"^from strands_token_telemetry(?:\.(\w+))? import (\w+)", source, re.MULTILINE)
    assert {first or second for first, second in imported} <= set(ROOMS[ROOMS.index(module) + 1 :])
    assert module == "hook" or not re.search(r"^\s*(import|from) strands\b(?!_)", source, re.MULTILINE)
