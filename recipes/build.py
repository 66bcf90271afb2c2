"""Build a model from corpora by its recipe.

    python -m recipes.build mini --panx DIR --lmtext DIR --out runs/mini
    python -m recipes.build base --panx DIR --running DIR --lmtext DIR --backbone DIR --out runs/base

Every step leaves a folder in OUT that is named after its settings and inputs. A step that is finished is not run
again, one that was stopped goes on from its last checkpoint, and one whose settings have changed starts anew beside
the old one.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from recipes.settings import read_settings
from recipes.steps import Step, all_steps, build, steps_to_run
from retrieveall.errors import RetrieveAllError

HERE = Path(__file__).parent


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    recipes = parser.add_subparsers(dest="recipe", required=True, metavar="RECIPE")
    modules = {}
    for name in sorted(path.parent.name for path in HERE.glob("*/recipe.yaml")):
        try:
            modules[name] = import_module(f"recipes.{name}.recipe")
        except ModuleNotFoundError as error:
            sys.exit(f"error: a build needs the package {error.name!r}; run: pip install -e '.[train,model]'")
        own = recipes.add_parser(name, help=(modules[name].__doc__ or "").strip())
        modules[name].add_arguments(own)
        own.add_argument("--out", type=Path, required=True, help="folder for the steps and the model")
        own.add_argument("--small", action="store_true", help="a build of minutes, to see that everything fits")
        own.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one setting")
        own.add_argument("--plan", action="store_true", help="say what would be run, and run nothing")
    args = parser.parse_args(arguments)
    recipe = modules[args.recipe]
    try:
        settings = read_settings(
            recipe.Settings, HERE / args.recipe / "recipe.yaml", small=args.small, changes=args.set
        )
        model = recipe.model(settings, args)
        if args.plan:
            print(plan(model, args.out))
        else:
            print(f"the model is in {build(model, args.out) / 'model'}")
    except RetrieveAllError as error:
        sys.exit(f"error: {error}")


def plan(last: Step, out: Path) -> str:
    """The steps with their state, a line each."""
    ahead = {step.key for step in steps_to_run(last, out)}

    def state(step: Step) -> str:
        if step.is_done(out):
            return "done"
        if step.key not in ahead:
            return "not needed"
        return "started" if step.folder(out).exists() else "to do"

    return "\n".join(f"{state(step):<12}{step.folder(out).name:<36}{step.work}".rstrip() for step in all_steps(last))


if __name__ == "__main__":
    main()
