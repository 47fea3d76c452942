"""The page that a report is: its shell, its style, and the few shapes that its parts are made of.

Always true here: a page is one file, asks for nothing, runs nothing (its own policy forbids both), reads in light and dark, on paper,
with a keyboard and through a screen reader; whatever comes from a record passes through `html_text`; what is said by colour is said by
a shape and a word as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forebear.tracer.certify.escape import html_text

__all__ = ["Html", "Section", "code_block", "definition_list", "page", "paragraph", "table", "verdict_badge"]

Html = str
"""Markup that is safe as it stands."""

SHAPES: dict[str, tuple[str, str, str]] = {
    "direct": ("octagon", "bad", "M5.2 1h5.6L15 5.2v5.6L10.8 15H5.2L1 10.8V5.2z"),
    "inherited_weights": ("triangle", "bad", "M8 1.2 15.4 14.6H.6z"),
    "subliminal_possible": ("diamond", "maybe", "M8 .6 15.4 8 8 15.4.6 8z"),
    "content_possible": ("diamond", "maybe", "M8 .6 15.4 8 8 15.4.6 8z"),
    "guidance_possible": ("diamond", "maybe", "M8 .6 15.4 8 8 15.4.6 8z"),
    "unknown": ("square", "unknown", "M1.5 1.5h13v13h-13z"),
    "cleared": ("ring", "good", "M8 1a7 7 0 1 0 0 14A7 7 0 1 0 8 1zm0 3a4 4 0 1 1 0 8 4 4 0 1 1 0-8z"),
    "not_exposed": ("disc", "good", "M8 1a7 7 0 1 0 0 14A7 7 0 1 0 8 1z"),
    "not_judged": ("bar", "none", "M1 6h14v4H1z"),
}
"""Shape's name, tone, and outline in a box of 16 by 16, for each verdict."""

_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b1f24;--soft:#4d5661;--line:#c9d1d9;--wash:#f4f6f8;--link:#0b57b0;
--bad:#b3261e;--maybe:#7b3fa0;--unknown:#7a5600;--good:#1a6b34;--none:#5b6672;--bar:#3b6ea8}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e6eaee;--soft:#a9b4bf;--line:#39424c;--wash:#1d232a;--link:#8ab8f2;
--bad:#ff8a80;--maybe:#d7a8f5;--unknown:#f0c35a;--good:#7fd69a;--none:#9aa6b2;--bar:#7fb0e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,Ubuntu,sans-serif}
.skip{position:absolute;left:-999px}.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.3rem .6rem;z-index:1}
header,main,footer{max-width:82rem;margin:0 auto;padding:1rem 1.25rem}
header{padding-top:2rem;padding-bottom:0}main{padding-top:0}footer{border-top:1px solid var(--line);color:var(--soft);font-size:.875rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .6rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:1.8rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
p{margin:.5rem 0;max-width:60rem}.lead{font-size:1.125rem}.soft{color:var(--soft)}
a{color:var(--link)}a:focus-visible,[tabindex]:focus-visible,svg a:focus-visible{outline:3px solid var(--link);outline-offset:2px}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.1rem;list-style:none;margin:.8rem 0 0;padding:0}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:.6rem 0}
.picture{overflow:auto;max-height:85vh}.picture svg{display:block}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .7rem;border-bottom:1px solid var(--line)}
tr:last-child td{border-bottom:0}thead th{background:var(--wash)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td{overflow-wrap:anywhere;min-width:8.5rem}td:first-child{min-width:9.5rem}td.n{min-width:0}
tr:target{background:var(--wash);outline:2px solid var(--link)}
code,pre{font:.875rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace}
pre{background:var(--wash);border:1px solid var(--line);border-radius:6px;padding:.7rem .9rem;overflow-x:auto;margin:.6rem 0}
code{overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.2rem 1.2rem;margin:.6rem 0}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.badge{display:inline-flex;align-items:center;gap:.4rem;font-weight:600;white-space:nowrap}.badge svg{width:1em;height:1em;flex:none}
.bad{color:var(--bad)}.maybe{color:var(--maybe)}.unknown{color:var(--unknown)}.good{color:var(--good)}.none{color:var(--none)}
svg text{fill:var(--ink);font-family:inherit}svg .soft{fill:var(--soft)}svg .glyph{fill:currentColor}
svg .box{fill:var(--paper);stroke:var(--line)}svg a:hover .box,svg a:focus .box{stroke:var(--link);stroke-width:2}
svg .own{stroke:var(--ink);stroke-width:2}svg .edge{fill:none;stroke:var(--none);stroke-width:1.3}
svg .made{stroke-dasharray:6 4}svg .guided{stroke-dasharray:2 4}svg .axis{stroke:var(--line)}svg .bars{fill:var(--bar)}
svg .curve{fill:none;stroke:var(--bad);stroke-width:2}svg .point{fill:var(--bad)}svg .mark{stroke:var(--bad);stroke-dasharray:4 3}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;list-style:none;padding:0;margin:.5rem 0;font-size:.9rem}
.legend li{display:flex;align-items:center;gap:.4rem}.legend svg{flex:none}
@media print{@page{margin:14mm}:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#333;--line:#999;--wash:#f2f2f2;--link:#000;
--bad:#9b1c15;--maybe:#5f2d7e;--unknown:#5e4200;--good:#14532a;--none:#444;--bar:#2c567f}
body{font-size:10.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}nav,.skip{display:none}
header,main,footer{max-width:none;padding-left:0;padding-right:0}.scroll,.picture{overflow:visible;max-height:none;border:0}
.picture svg{max-width:100%;height:auto}table{font-size:9pt}th,td{padding:.2rem .4rem}tr,pre{break-inside:avoid}h2{break-after:avoid}
pre{white-space:pre-wrap;overflow-wrap:anywhere}}
"""


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, its heading, and its markup."""

    anchor: str
    title: str
    body: Html


def page(title: str, *, lead: Html, sections: Sequence[Section], foot: Html) -> str:
    """The whole page.

    Args:
        title: Plain text.
        lead: What stands under the title.
        sections: The parts; those without a body are left out.
        foot: The last line.
    """
    shown = [one for one in sections if one.body]
    links = "".join(f'<li><a href="#{one.anchor}">{html_text(one.title)}</a></li>' for one in shown)
    parts = "".join(f'<section><h2 id="{one.anchor}">{html_text(one.title)}</h2>{one.body}</section>\n' for one in shown)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#content">To the content</a>\n'
        f'<header><h1>{html_text(title)}</h1>{lead}<nav aria-label="Parts of this page"><ul>{links}</ul></nav></header>\n'
        f'<main id="content" tabindex="-1">\n{parts}</main>\n<footer>{foot}</footer>\n</body>\n</html>\n'
    )


def paragraph(text: object, *, style: str = "") -> Html:
    """A paragraph of plain text."""
    return f'<p class="{style}">{html_text(text)}</p>' if style else f"<p>{html_text(text)}</p>"


def code_block(lines: Iterable[str]) -> Html:
    """Commands or digests, one a line."""
    return '<pre tabindex="0"><code>' + "\n".join(html_text(one) for one in lines) + "</code></pre>"


def definition_list(pairs: Iterable[tuple[str, Html]]) -> Html:
    """Terms and what they mean; the second of a pair is markup."""
    return "<dl>" + "".join(f"<dt>{html_text(term)}</dt><dd>{meaning}</dd>" for term, meaning in pairs) + "</dl>"


def table(caption: str, columns: Sequence[str], rows: Iterable[tuple[str | None, Sequence[Html]]], *, numeric: Iterable[int] = ()) -> Html:
    """A table that scrolls sideways in a narrow window.

    Args:
        caption: What it lists, for those who hear it.
        columns: Headings; one that ends in `#` is a number's.
        rows: An anchor (or None) and the cells, markup.
        numeric: Positions of columns that hold numbers.
    """
    right = set(numeric)
    head = "".join(f'<th scope="col"{_right(n in right)}>{html_text(one)}</th>' for n, one in enumerate(columns))
    body = "".join(
        f"<tr{_anchor(anchor)}>" + "".join(f"<td{_right(n in right)}>{cell}</td>" for n, cell in enumerate(cells)) + "</tr>"
        for anchor, cells in rows
    )
    label = html_text(caption)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table aria-label="{label}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _right(yes: bool) -> str:
    return ' class="n"' if yes else ""


def _anchor(anchor: str | None) -> str:
    return "" if anchor is None else f' id="{anchor}"'


def glyph(verdict: str, *, size: int = 16) -> Html:
    """The shape of a verdict, hidden from those who hear the word beside it."""
    _, tone, outline = SHAPES[verdict]
    mark = '<text x="8" y="12.2" text-anchor="middle" font-size="11" font-weight="700" style="fill:var(--paper)">?</text>'
    inner = f'<path class="glyph" d="{outline}"/>' + (mark if verdict == "unknown" else "")
    return f'<svg class="{tone}" width="{size}" height="{size}" viewBox="0 0 16 16" aria-hidden="true" focusable="false">{inner}</svg>'


def verdict_badge(verdict: str) -> Html:
    """A verdict by shape, colour and word."""
    return f'<span class="badge {SHAPES[verdict][1]}">{glyph(verdict)}{html_text(verdict)}</span>'
