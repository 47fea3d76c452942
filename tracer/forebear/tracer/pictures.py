"""Pictures of a trace: the ancestors of models as a Mermaid flowchart or a Graphviz graph.

Always true here: a verdict is told by shape and words, never by colour alone; names come from outside and can break neither language;
a picture that would be too large is cut, farthest ancestors first, and says how many relations of what it draws it leaves out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebear.schemas.enums import Grade, Verdict
from forebear.tracer.lineage.graph import MODEL
from forebear.tracer.lineage.relations import GRADES, RULES
from forebear.tracer.render import plain

if TYPE_CHECKING:
    from forebear.tracer.audit.answer import Trace
    from forebear.tracer.audit.session import Question, Session

__all__ = ["MERMAID_CHARACTERS", "Caps", "dot", "mermaid"]

MERMAID_CHARACTERS = 50_000
"""Mermaid's own bound (`maxTextSize`); beyond it, or beyond 500 edges, it draws an error."""

_LABEL = 60
_DATASET = "dataset"

# Opening and closing signs of Mermaid's shapes, and Graphviz's, by verdict; a dataset is a cylinder.
_SHAPES: dict[str, tuple[str, str, str]] = {
    Verdict.DIRECT: ("{{", "}}", "hexagon"),
    Verdict.INHERITED_WEIGHTS: ("[[", "]]", "octagon"),
    Verdict.SUBLIMINAL_POSSIBLE: ("{", "}", "diamond"),
    Verdict.CONTENT_POSSIBLE: ("[/", "/]", "parallelogram"),
    Verdict.GUIDANCE_POSSIBLE: ("[/", "\\]", "trapezium"),
    Verdict.UNKNOWN: ("([", "])", "ellipse"),
    Verdict.CLEARED: ("(", ")", "note"),
    Verdict.NOT_EXPOSED: ("[", "]", "box"),
    _DATASET: ("[(", ")]", "cylinder"),
}
_COLOURS: dict[str, str] = {
    Verdict.DIRECT: "#f4a6a0",
    Verdict.INHERITED_WEIGHTS: "#f9cdb8",
    Verdict.SUBLIMINAL_POSSIBLE: "#e3c6ee",
    Verdict.CONTENT_POSSIBLE: "#e3c6ee",
    Verdict.GUIDANCE_POSSIBLE: "#e3c6ee",
    Verdict.UNKNOWN: "#fbf0b2",
    Verdict.CLEARED: "#cfe8cf",
    Verdict.NOT_EXPOSED: "#cfe8cf",
    _DATASET: "#e8e8e8",
}


@dataclass(frozen=True)
class Caps:
    """How much is drawn at most; a verdict is computed for every model that is drawn."""

    nodes: int = 200
    edges: int = 400


@dataclass(frozen=True)
class _Edge:
    child: int
    parent: int
    label: str
    solid: bool
    both_ways: bool


@dataclass
class _Drawing:
    """What is drawn: shape and label by node, edges, and how many relations of these nodes are not."""

    asked: set[int] = field(default_factory=set)
    nodes: dict[int, tuple[str, str]] = field(default_factory=dict)
    edges: list[_Edge] = field(default_factory=list)
    omitted: int = 0

    @property
    def numbers(self) -> dict[int, int]:
        """Nodes by the order in which they are drawn: a picture does not change with what else the ledger holds."""
        return {node: n for n, node in enumerate(self.nodes)}

    @property
    def notice(self) -> str:
        """What the picture says of itself where it is cut."""
        return f"at least {self.omitted} more relations are not drawn; trace --json has every exposure"


def mermaid(session: Session, traces: Sequence[Trace], *, question: Question | None = None, caps: Caps | None = None) -> str:
    """A Mermaid flowchart of some models and their ancestors, within Mermaid's limits.

    Args:
        session: The ledger.
        traces: What was answered of the models.
        question: What was asked; default: the session's.
        caps: How much is drawn at most.
    """
    limit = caps or Caps()
    while True:
        drawing = _draw(session, traces, question=question or session.default, caps=limit)
        text = _mermaid(drawing)
        if len(text) <= MERMAID_CHARACTERS or limit.nodes < 2:
            return text
        limit = Caps(limit.nodes * 3 // 4, limit.edges * 3 // 4)


def dot(session: Session, traces: Sequence[Trace], *, question: Question | None = None, caps: Caps | None = None) -> str:
    """A Graphviz graph of some models and their ancestors.

    Args:
        session: The ledger.
        traces: What was answered of the models.
        question: What was asked; default: the session's.
        caps: How much is drawn at most.
    """
    return _dot(_draw(session, traces, question=question or session.default, caps=caps or Caps()))


def _draw(session: Session, traces: Sequence[Trace], *, question: Question, caps: Caps) -> _Drawing:
    """Breadth first from the asked models: what is cut is what is farthest."""
    graph, drawing = session.graph, _Drawing()
    label = _labels(session, traces, question)
    for trace in traces[: caps.nodes]:
        node = graph.find(trace.model.id)
        drawing.asked.add(node)
        drawing.nodes[node] = label(node)
    drawing.omitted = sum(len(graph.edges_of(graph.find(one.model.id))) for one in traces[caps.nodes :])
    todo, mutual = deque(drawing.nodes), set[frozenset[int]]()
    while todo:
        child = todo.popleft()
        for at in graph.edges_of(child):
            parent, rule = int(graph.edges.parent[at]), RULES[graph.edges.rule[at]]
            if rule.both_ways:
                if frozenset((child, parent)) in mutual:
                    continue
                mutual.add(frozenset((child, parent)))
            if len(drawing.edges) >= caps.edges or (parent not in drawing.nodes and len(drawing.nodes) >= caps.nodes):
                drawing.omitted += 1
                continue
            contradicted = GRADES[graph.edges.grade[at]] is Grade.CONTRADICTED
            words = rule.relation.value + (" (contradicted)" if contradicted else "")
            drawing.edges.append(_Edge(child, parent, words, rule.walked and not contradicted, rule.both_ways))
            if parent not in drawing.nodes:
                drawing.nodes[parent] = label(parent)
                if rule.walked:
                    todo.append(parent)
    return drawing


def _labels(session: Session, traces: Sequence[Trace], question: Question) -> Callable[[int], tuple[str, str]]:
    """Shape and label of a node: a model's verdict, the bad documents of a dataset that an exposure names."""
    graph, walker = session.graph, session.walker(question)
    answered = {trace.model.id: trace.verdict for trace in traces}
    documents: Mapping[str, int | None] = {one.dataset.id: one.documents for trace in traces for one in trace.exposures}

    def label(node: int) -> tuple[str, str]:
        name = plain(graph.name(node) or graph.ids[node])
        shown = name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"
        if graph.kind[node] != MODEL:
            count = documents.get(graph.ids[node])
            return _DATASET, shown + (f": {count} contaminated documents" if count else "")
        verdict = answered.get(graph.ids[node]) or walker.trace(node).verdict
        return verdict.value, f"{shown}: {verdict.value}"

    return label


def _mermaid(drawing: _Drawing) -> str:
    lines, at = ["flowchart BT"], drawing.numbers
    for node, (shape, label) in drawing.nodes.items():
        opening, closing, _ = _SHAPES[shape]
        lines.append(f'  n{at[node]}{opening}"{_mermaid_text(label)}"{closing}:::{shape}')
    for edge in drawing.edges:
        arrow = "<-->" if edge.both_ways else "-->" if edge.solid else "-.->"
        lines.append(f'  n{at[edge.child]} {arrow}|"{_mermaid_text(edge.label)}"| n{at[edge.parent]}')
    if drawing.omitted:
        lines.append(f'  cut>"{drawing.notice}"]')
    lines += [
        f"  classDef {shape} fill:{_COLOURS[shape]},stroke:#444,color:#111" for shape in sorted({one for one, _ in drawing.nodes.values()})
    ]
    lines += [f"  style n{at[node]} stroke-width:4px" for node in drawing.nodes if node in drawing.asked]
    return "\n".join(lines) + "\n"


def _dot(drawing: _Drawing) -> str:
    at = drawing.numbers
    lines = ["digraph ancestors {", "  rankdir=BT;", '  node [style=filled, color="#444444", fontname="sans-serif"];']
    for node, (shape, label) in drawing.nodes.items():
        width = ", penwidth=4" if node in drawing.asked else ""
        lines.append(f'  n{at[node]} [label="{_dot_text(label)}", shape={_SHAPES[shape][2]}, fillcolor="{_COLOURS[shape]}"{width}];')
    for edge in drawing.edges:
        style = ", dir=both" if edge.both_ways else "" if edge.solid else ", style=dashed"
        lines.append(f'  n{at[edge.child]} -> n{at[edge.parent]} [label="{_dot_text(edge.label)}"{style}];')
    if drawing.omitted:
        lines.append(f'  cut [label="{drawing.notice}", shape=plaintext, style=""];')
    return "\n".join([*lines, "}"]) + "\n"


def _mermaid_text(text: str) -> str:
    """Text inside a quoted Mermaid label: what is neither letter, digit nor harmless sign as an entity code."""
    return "".join(one if one.isalnum() or one in " /.-_:@+=,…" else f"#{ord(one)};" for one in text)


def _dot_text(text: str) -> str:
    """Text inside a quoted Graphviz label, which knows backslash escapes and HTML entities."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
