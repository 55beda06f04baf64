"""`python -m examples.fonts [--script latin|chinese] [--json]`: a style from few glyphs, and a sheet of the others.

Fonts are those of the system; nothing is installed. Exits with 1 where there are too few.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import vaekit as vk
from examples.fonts import glyphs, measure, model, sheet

WANTED = {
    "latin": (
        "fonts-adf-accanthis fonts-adf-baskervald fonts-adf-berenis fonts-adf-gillius fonts-adf-irianis "
        "fonts-adf-libris fonts-adf-mekanus fonts-adf-oldania fonts-adf-romande fonts-adf-solothurn "
        "fonts-adf-switzera fonts-adf-tribun fonts-adf-universalis fonts-cabin fonts-cantarell fonts-cardo fonts-cmu "
        "fonts-comfortaa fonts-dancingscript fonts-dosis fonts-ebgaramond fonts-essays1743 fonts-fanwood "
        "fonts-firacode fonts-freefont-otf fonts-georgewilliams fonts-gfs-artemisia fonts-gfs-baskerville "
        "fonts-goudybookletter fonts-hack fonts-inconsolata fonts-inter fonts-isabella fonts-jetbrains-mono "
        "fonts-junicode fonts-jura fonts-karla fonts-lato fonts-lindenhill fonts-linuxlibertine fonts-lobster "
        "fonts-lobstertwo fonts-manrope fonts-monofur fonts-oldstandard fonts-open-sans fonts-paratype fonts-play "
        "fonts-prociono fonts-quattrocento fonts-quicksand fonts-radisnoir fonts-roboto-unhinted fonts-roboto-slab "
        "fonts-sil-andika fonts-sil-charis fonts-sil-gentiumplus fonts-stix fonts-thai-tlwg-ttf fonts-tuffy "
        "fonts-urw-base35 fonts-vollkorn fonts-yanone-kaffeesatz fonts-lmodern fonts-texgyre"
    ),
    "chinese": (
        "fonts-noto-cjk fonts-noto-cjk-extra fonts-wqy-microhei fonts-wqy-zenhei fonts-arphic-ukai "
        "fonts-arphic-uming fonts-arphic-bkai00mp fonts-arphic-bsmi00lp fonts-arphic-gbsn00lp "
        "fonts-arphic-gkai00mp fonts-cwtex-fs fonts-cwtex-heib fonts-cwtex-kai fonts-cwtex-ming "
        "fonts-cwtex-yen fonts-lxgw-wenkai fonts-smiley-sans fonts-babelstone-han fonts-cns11643-kai "
        "fonts-cns11643-sung fonts-hanazono fonts-horai-umefont fonts-ipaexfont fonts-klee fonts-migmix "
        "fonts-morisawa-bizud-gothic fonts-morisawa-bizud-mincho fonts-motoya-l-cedar "
        "fonts-motoya-l-maruberi fonts-mplus fonts-aoyagi-kouzan-t fonts-kouzan-mouhitsu "
        "fonts-sawarabi-gothic fonts-sawarabi-mincho fonts-seto fonts-vlgothic fonts-yozvox-yozfont "
        "fonts-yusei-magic fonts-dotgothic16 fonts-rocknroll fonts-reggae fonts-stick fonts-konatu "
        "fonts-komatuna fonts-kiloji fonts-unfonts-core"
    ),
}
FEWEST = {"latin": 100, "chinese": 20}


def run(
    script: str, minutes: float, seed: int, out: str, fonts: glyphs.Fonts | None = None, **sizes: Any
) -> dict[str, Any]:
    """Train, measure and draw; the record.

    Args:
        script: "latin" or "chinese".
        minutes: of training, on two cores.
        seed: of the weights, the training and the measurement.
        out: file of the sheet.
        fonts: None collects those of the system.
        sizes: `hidden`, `copies`, `num_targets`, `at_most`: see `model` and `measure`.
    """
    start = time.process_time()
    characters = glyphs.LATIN if script == "latin" else glyphs.chinese()
    fonts = glyphs.collect(characters, fits_each=script == "latin") if fonts is None else fonts
    if len(fonts.faces) < sizes.get("fewest", FEWEST[script]):
        raise SystemExit(
            f"examples.fonts found {len(fonts.faces)} fonts that have the characters and differ from each other; it "
            f"needs {FEWEST[script]}. On Debian: apt-get install {WANTED[script]}"
        )
    rows = model.training_rows(fonts, seed, sizes.get("copies"))
    _say(f"{len(fonts.faces)} fonts of {len(set(fonts.families))} families; {fonts.held_out.sum()} fonts are held out")
    with vk.engine.seeded(seed):
        vae = model.autoencoder(len(characters), glyphs.SIDE, sizes.get("hidden", 512))
    prepared = time.process_time() - start
    trained = model.fit(vae, rows, 120 * minutes, seed)
    _say(f"trained: {trained}")
    start = time.process_time()
    found = measure.measure(vae, fonts, sizes.get("num_targets", 2), seed, sizes.get("at_most", 64))
    sheet.draw(vae, fonts, out, seed=seed)
    held_out = {name for name, is_out in zip(fonts.families, fonts.held_out, strict=True) if is_out}
    return {
        "script": script,
        "seed": seed,
        "num_characters": len(characters),
        "num_fonts": len(fonts.faces),
        "num_families": len(set(fonts.families)),
        "num_held_out_fonts": int(fonts.held_out.sum()),
        "num_held_out_families": len(held_out),
        "num_training_rows": len(rows),
        "minutes": minutes,
        "prepare_cpu_seconds": round(prepared, 1),
        **trained,
        "measure_cpu_seconds": round(time.process_time() - start, 1),
        "versions": {"vaekit": vk.__version__},
        **found,
    }


def table(record: dict[str, Any]) -> str:
    """The record's numbers as plain text."""
    lines = ["log p of a glyph, nats, given", *(f"  {m:>6}  {_both(v)}" for m, v in record["log_p"].items())]
    lines += ["rise of log p, nats", *(f"  {name}  {_both(v)}" for name, v in record["rise"].items())]
    lines += ["squared error per pixel, given: mean / nearest training font / gain"]
    for m, row in record["squared_error"].items():
        lines.append(
            f"  {m:>6}  " + " / ".join(_both(row[name]) for name in ("mean", "nearest", "gain") if name in row)
        )
    return "\n".join(lines)


def _both(value: dict[str, float]) -> str:
    return f"{value['value']:.4g} +- {value['stderr']:.2g}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> None:
    """Read the words, run, and print a table or one JSON document."""
    parser = argparse.ArgumentParser(prog="python -m examples.fonts", description=__doc__)
    parser.add_argument("--script", choices=sorted(WANTED), default="latin")
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="of training on two cores: 120 seconds of processor time each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", default=None, help="file of the sheet; fonts-SCRIPT.png")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    chosen = parser.parse_args(words)
    out = chosen.out or f"fonts-{chosen.script}.png"
    if not chosen.minutes > 0:
        parser.error(f"--minutes is positive; got {chosen.minutes}")
    if not Path(out).resolve().parent.is_dir():
        parser.error(f"there is no folder {Path(out).resolve().parent} for the sheet")
    record = run(chosen.script, chosen.minutes, chosen.seed, out)
    print(json.dumps(record, indent=2) if chosen.json else table(record))
    _say(f"wrote {out}")


if __name__ == "__main__":
    main()
