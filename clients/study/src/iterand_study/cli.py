"""The command `iterand-study`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import iterand

from iterand_study import checks, config, config_file, document, evalsets, leaderboard, markov, record, report, variants


def _count(text: str) -> int:
    """A whole number above 0, also written as 2e6."""
    number = float(text)
    if not (number.is_integer() and number > 0):
        raise argparse.ArgumentTypeError(f"{text} must be a whole number above 0")
    return int(number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iterand-study",
        description="How much real data does compute replace? Pretrains, evaluates, finetunes, reports.",
    )
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, needs_config: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if needs_config:
            sub.add_argument("config", type=Path, help="JSON or TOML file")
        return sub

    def served(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--server", metavar="ADDRESS", help="host:port (default: the configuration's)")
        sub.add_argument("--binary", metavar="FILE", help="the program `iterand`, which serves if no server is named")

    def several(sub: argparse.ArgumentParser) -> None:
        text = "runs at a time, each in a process of its own with its share of the cores (default: 1)"
        sub.add_argument("--jobs", type=_count, default=1, metavar="N", help=text)

    for name, text in (
        ("pretrain", "Pretrains and evaluates one model"),
        ("sweep", "Runs all variants and seeds, finetuning included"),
    ):
        sub = command(name, text)
        sub.add_argument("--out", type=Path, required=True, metavar="DIR")
        if name == "sweep":
            several(sub)
        served(sub)
    text = "Runs a leaderboard, of which the record says what is finished, or a recipe beside its arms"
    sub = command("leaderboard", text, needs_config=False)
    sub.add_argument("config", type=Path, nargs="?", default=Path("leaderboard-1.json"), help="default: %(default)s")
    sub.add_argument("--out", type=Path, metavar="DIR", help="default: ../results/NAME beside the configuration")
    sub.add_argument("--record", type=Path, metavar="FILE", help="default: ../records/NAME.json beside it")
    sub.add_argument("--plan", action="store_true", help="print the core-seconds of each arm, and run nothing")
    sub.add_argument("--no-run", action="store_true", help="only collect what is finished")
    sub.add_argument("--add", type=Path, metavar="RECIPE", help="run this recipe beside the arms of the record")
    sub.add_argument("--seeds", type=_count, metavar="N", help="only the first N seeds of the configuration")
    text = "also write the tables that compare the arms, without plots and settings, as one Markdown page"
    sub.add_argument("--tables", type=Path, metavar="FILE", help=text)
    several(sub)
    served(sub)
    text = "Makes the texts that are held out, prose.txt and python.py, and prints the SHA-256 of all texts there"
    sub = command("texts", text, needs_config=False)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")
    sub.add_argument("--jargon", type=Path, metavar="FILE", help="jargon.txt.gz of the Debian package jargon-text")
    sub = command("zero-shot", "Evaluates a model that `pretrain` wrote")
    sub.add_argument("--model", type=Path, required=True, metavar="FILE")
    sub.add_argument("--out", type=Path, metavar="FILE", help="JSON (default: standard output)")
    sub = command("finetune", "Finetunes a pretrained model, and one from scratch for comparison")
    sub.add_argument("--model", type=Path, required=True, metavar="FILE")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")
    sub = command("structure", "Estimates the learnable structure of recipes", needs_config=False)
    sub.add_argument(
        "--recipe", action="append", required=True, metavar="R", help="a preset's name or a JSON file; repeatable"
    )
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--tokens", type=_count, default=1_000_000)
    sub.add_argument("--out", type=Path, metavar="FILE", help="JSON, a list with one entry per recipe")
    served(sub)
    sub = command("markov", "Context-Markov baselines of the evaluation sets", needs_config=False)
    sub.add_argument("--windows", type=_count, default=100_000)
    sub.add_argument("--length", type=_count, default=512)
    sub.add_argument("--text", action="append", default=[], metavar="NAME=FILE", help="a text to add; repeatable")
    text = "Writes report.md, report.html and plots of a sweep's folder or of its record, results.json"
    sub = command("report", text, needs_config=False)
    sub.add_argument("source", type=Path, nargs="+", help="a sweep's folder or a record; several make one report")
    sub.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: the source folder)")
    sub.add_argument("--variant", action="append", default=[], metavar="NAME", help="only this variant; repeatable")
    text = (
        "compare all variants on this finetuning stage, as a leaderboard; of several stages the mean counts; repeatable"
    )
    sub.add_argument("--leaderboard", action="append", default=[], metavar="STAGE", help=text)
    sub.add_argument("--title", default="Study")
    return parser


def _study(options: argparse.Namespace) -> config.Study:
    study = config_file.load(options.config)
    if getattr(options, "server", None):
        study = dataclasses.replace(study, server=options.server)
    if getattr(options, "binary", None):
        study = dataclasses.replace(study, binary=options.binary)
    return study


def _structure(options: argparse.Namespace) -> None:
    from iterand_study import data, files, structure

    results = []
    with data.server(config.Study(server=options.server, binary=options.binary or "iterand")) as address:
        for recipe in options.recipe:
            size = structure.Size(tokens=options.tokens)
            results.append(structure.run(address, recipe, options.seed, size))
            _print_structure(results[-1])
            if options.out:
                files.write_json(options.out, results)


def _print_structure(result: dict[str, Any]) -> None:
    print(
        f"{result['recipe']}: structure {result['structure_bits_per_token']:.3f} bits/token "
        f"({result['structure_bits']:.3g} bits in {result['tokens']} tokens), "
        f"code length {result['code_bits_per_token']:.3f}, final loss {result['final_bits']:.3f} bits/token",
        flush=True,
    )


def _markov(options: argparse.Namespace) -> None:
    for text in options.text:
        if "=" not in text:
            raise config.ConfigError(f"--text is {text!r}; it must be NAME=FILE")
    files = dict(text.split("=", 1) for text in options.text)
    for name, file in files.items():
        if not Path(file).is_file():
            raise config.ConfigError(f"--text {name}={file}: there is no such file")
    print(f"{'set':12s} {'published':>9s} {'best':>6s} {'apart':>6s} {'order':>5s}   orders 0-5")
    for name in [*evalsets.LANGUAGES, *files]:
        rows = evalsets.evaluation_windows(name, options.length, options.windows, files=files)
        found = markov.baseline(rows)
        language = evalsets.LANGUAGES.get(name)
        published = f"{min(language.published_markov):.2f}" if language else "-"
        apart = f"{found.best - min(language.published_markov):+.3f}" if language else "-"
        orders = " ".join(f"{found.bits[order]:.3f}" for order in markov.ORDERS)
        print(
            f"{name:12s} {published:>9s} {found.best:6.3f} {apart:>6s} {found.best_order:5d}   {orders}",
            flush=True,
        )


def _report(options: argparse.Namespace) -> None:
    for source in options.source:
        if not source.exists():
            raise config.ConfigError(f"{source} does not exist; it must be the folder of a sweep or a results.json")
    out = options.out
    if out is None and len(options.source) == 1 and options.source[0].is_dir():
        out = options.source[0]
    if out is None:
        raise config.ConfigError("--out is missing: a report of records or of several folders needs one")
    for source in options.source:
        if source.resolve() == (out / "results.json").resolve():
            raise config.ConfigError(f"the report would be written over {source}; give another --out")
    found = record.merge({str(source): record.read(source) for source in options.source})
    if options.variant:
        found = record.select_variants(found, options.variant)
    unknown = [stage for stage in options.leaderboard if stage not in record.stages(found)]
    if unknown:
        raise config.ConfigError(
            f"--leaderboard {unknown[0]}: the stages are {', '.join(record.stages(found)) or 'none'}"
        )
    front = leaderboard.parts(found, leaderboard.Stages(options.leaderboard, [])) if options.leaderboard else None
    print(report.write(found, out, options.title, front))


def _zero_shot(options: argparse.Namespace) -> None:
    from iterand_study import files, training, zeroshot

    study = _study(options)
    checks.check_files(study, pretraining=False)
    found = zeroshot.evaluate(files.load_model(options.model).to(training.device_of(study)), study.evaluation)
    if options.out:
        files.write_json(options.out, found)
    else:
        print(json.dumps(found, indent=1))


def _finetune(options: argparse.Namespace) -> None:
    from iterand_study import files, finetune, training

    study = _study(options)
    checks.check_files(study, pretraining=False)
    training.device_of(study)
    beside = options.model.parent / "pretrain.json"
    flops = record.synthetic_flops(json.loads(beside.read_text())) if beside.exists() else None
    study = dataclasses.replace(study, model=files.load_model(options.model).shape)
    for stage in study.finetune:
        finetune.run(study, stage, options.model, options.out, flops)


def _server(study: config.Study) -> contextlib.AbstractContextManager[str | None]:
    """The address of the server for a study's variants, None if all read dumps. Errors: ConfigError if a variant cannot
    run."""
    from iterand_study import data, run_store, training

    arms = list(variants.expand(study).values())
    for arm in arms:
        checks.check_files(arm, pretraining=True)
        if config.is_model_file(arm.pretrain.start):
            run_store.initial_weights(arm)
        training.device_of(arm)
    return data.server(study) if any(arm.pretrain.dump is None for arm in arms) else contextlib.nullcontext()


def _sweep(options: argparse.Namespace) -> None:
    from iterand_study import sweep

    study = _study(options)
    with _server(study) as address:
        sweep.run(study, address, options.out, jobs=options.jobs)
    print(report.write(record.from_folder(options.out), options.out, study.name))


def _leaderboard(options: argparse.Namespace) -> None:
    from iterand_study import leaderboard_run, plan, sweep

    study = _study(options)
    if options.seeds is not None:
        study = dataclasses.replace(study, seeds=study.seeds[: options.seeds])
    beside, name = options.config.resolve().parent.parent, options.config.stem
    out, file = options.out or beside / "results" / name, options.record or beside / "records" / f"{name}.json"
    known, stages = leaderboard_run.read_known(file), leaderboard.Stages.of(study)
    if options.add is not None:
        if options.plan or options.no_run:
            raise config.ConfigError("--add runs its recipe; it goes with neither --plan nor --no-run")
        if options.tables is not None:
            raise config.ConfigError("--add leaves the record as it is; it does not go with --tables")
        study = leaderboard_run.with_recipe(study, options.add, known)
    if not options.no_run:
        with _server(study) as address:
            if options.plan:
                finished = leaderboard_run.collect(study, out, known)
                print(document.markdown(plan.plan(study, address, out, finished)), end="")
                return
            try:
                sweep.run(study, address, out, known, options.jobs)
            except KeyboardInterrupt:
                found = leaderboard_run.collect(study, out, known)
                if options.add is None and found["runs"]:
                    record.write(file, found)
                raise
    found = leaderboard_run.collect(study, out, known)
    if not options.no_run:
        leaderboard_run.measure_generators(study, found)
    if options.add is not None:
        print(document.markdown(leaderboard.parts(found, stages, options.add.stem)), end="")
        return
    if found["runs"]:
        record.write(file, found)
    page = report.write(found, out, study.name, leaderboard.parts(found, stages))
    print(f"{page}\n{file}")
    if options.tables is not None:
        options.tables.write_text(leaderboard_run.page(study, options.config.name, found))
        print(options.tables)


def _texts(options: argparse.Namespace) -> None:
    from iterand_study import texts

    made = {
        "prose.txt": texts.prose() if options.jargon is None else texts.prose(options.jargon),
        "python.py": texts.python(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        (options.out / name).write_bytes(content)
    for path in sorted(path for path in options.out.iterdir() if path.is_file()):
        print(f"{evalsets.text_sha256(path)}  {path.stat().st_size:>10}  {path.name}")


def _pretrain(options: argparse.Namespace) -> None:
    from iterand_study import data, parallel, pretrain, training

    study = _study(options)
    checks.check_files(study, pretraining=True)
    needs_server = study.pretrain.dump is None
    if needs_server and study.server is None and parallel.env_local_world_size() < parallel.env_world_size():
        raise config.ConfigError("several machines must share one server: name it by --server")
    with parallel.group(training.device_of(study)):
        starts_one = needs_server and parallel.is_main_process()
        with data.server(study) if starts_one else contextlib.nullcontext() as address:
            pretrain.run(study, parallel.broadcast(address), options.out)


_COMMANDS = {
    "pretrain": _pretrain,
    "sweep": _sweep,
    "leaderboard": _leaderboard,
    "texts": _texts,
    "zero-shot": _zero_shot,
    "finetune": _finetune,
    "structure": _structure,
    "markov": _markov,
    "report": _report,
}


def _run(options: argparse.Namespace) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and options.command != "pretrain":
        raise config.ConfigError(f"{options.command} runs in one process; torchrun is for `iterand-study pretrain`")
    _COMMANDS[options.command](options)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a server that we started is stopped
    try:
        _run(options)
    except (config.ConfigError, iterand.Error, OSError, ValueError) as error:
        print(f"iterand-study: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        install = "pip install iterand-study (from a clone: pip install . clients/study)"
        print(
            f"iterand-study: the package {error.name} cannot be imported ({error}): {install}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("iterand-study: interrupted; the same command continues with what is not finished", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
