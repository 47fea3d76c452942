"""The model card: ours between markers, theirs untouched, twice the same, parsed back by the hub's own library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from certified import CARD, NAME, base_record, certified, release, run_command
from hypothesis import given
from hypothesis import strategies as st

from forebear.schemas.errors import DataError
from forebear.tracer.audit.session import Session
from forebear.tracer.certify import hugging_face as card
from forebear.tracer.certify.statement import claims, described


@pytest.fixture(scope="module")
def predicate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    released = release(tmp_path_factory.mktemp("card"))
    return described(claims(Session.open(released.ledger), NAME))


def parsed(text: str) -> dict[str, Any]:
    hub = pytest.importorskip("huggingface_hub")
    found: dict[str, Any] = hub.ModelCard(text, ignore_metadata_errors=False).data.to_dict()
    return found


def test_the_hubs_library_reads_the_front_matter_back(predicate: dict[str, Any]) -> None:
    data = parsed(card.update_card(CARD, predicate).text)
    assert (data["base_model"], data["base_model_relation"], data["datasets"]) == (["acme/base-7b"], "finetune", ["acme/instructions"])
    assert data["forebear"] == {"verdict": "inherited_weights", "at_worst": "inherited_weights", "complete": False, "head": 2}
    assert (data["license"], data["tags"]) == ("apache-2.0", ["chat"])


def test_what_the_author_wrote_stays_byte_for_byte(predicate: dict[str, Any]) -> None:
    text = card.update_card(CARD, predicate).text
    theirs = re.sub(r"# forebear:begin\n.*?# forebear:end\n", "", text, flags=re.DOTALL)
    assert theirs[: theirs.index("<!-- forebear:begin")].rstrip() == CARD.rstrip()


@given(body=st.text(alphabet=st.characters(exclude_characters="\r", codec="utf-8"), max_size=80), windows=st.booleans(), bom=st.booleans())
def test_writing_twice_is_writing_once(predicate: dict[str, Any], body: str, windows: bool, bom: bool) -> None:
    if "forebear:" in body or body.lstrip().startswith("---"):
        return
    text = ("\ufeff" if bom else "") + (CARD + body).replace("\n", "\r\n" if windows else "\n")
    once = card.update_card(text, predicate)
    assert card.update_card(once.text, predicate) == once
    found = card.find_section(once.text)
    assert found is not None and card.section_digest(found) == card.section_digest(card.section(predicate))


def test_a_later_certificate_brings_both_parts_up_to_date(predicate: dict[str, Any]) -> None:
    old = card.update_card(CARD, predicate).text
    new = card.update_card(old, {**predicate, "verdict": "direct", "at_worst": "direct"}).text
    assert parsed(new)["forebear"]["verdict"] == "direct" and "inherited_weights" not in new.split("| through |")[0]
    assert card.update_card(new, predicate).text == old


CARDS = {
    "no front matter": "# Chat\n\nText.\n",
    "an empty card": "",
    "front matter alone": "---\nlicense: mit\n---\n",
    "an empty front matter": "---\n---\n# Chat\n",
    "front matter that ends the file": "---\nlicense: mit\n---",
    "white space before it": "\n\n---\nlicense: mit\n---\n# Chat\n",
    "a rule further down": "# Chat\n\n---\n\nText.\n\n---\n",
}


@pytest.mark.parametrize("sentence", CARDS)
def test_a_card_with_this_gets_both_parts_and_keeps_its_own(sentence: str, predicate: dict[str, Any]) -> None:
    once = card.update_card(CARDS[sentence], predicate).text
    assert card.update_card(once, predicate).text == once
    data = parsed(once)
    assert data["base_model"] == ["acme/base-7b"]
    assert ("license" in data) == ("license" in CARDS[sentence])
    assert once.count(card.END) == 1 and ("Text." in once) == ("Text." in CARDS[sentence])


def test_what_the_author_says_of_the_base_stands_and_a_difference_is_told(predicate: dict[str, Any]) -> None:
    same = card.update_card("---\nbase_model: acme/base-7b\n---\n", predicate)
    assert same.differences == () and parsed(same.text)["base_model"] == "acme/base-7b"
    other = card.update_card("---\nbase_model: [other/base]\n---\n", predicate)
    assert parsed(other.text)["base_model"] == ["other/base"]
    assert len(other.differences) == 1 and "other/base" in other.differences[0] and "acme/base-7b" in other.differences[0]


REFUSED = {
    "YAML that is none": ("---\na: [1\n---\n# x\n", "broken_front_matter"),
    "a list": ("---\n- a\n---\n", "broken_front_matter"),
    "aliases, which can unfold without end": ("---\na: &a [x]\nb: [*a, *a]\n---\n", "broken_front_matter"),
    "a Python object": ("---\na: !!python/object/apply:os.system [true]\n---\n", "broken_front_matter"),
    "an end without a beginning": (f"# x\n{card.END}\n", "broken_markers"),
    "two sections": (f"# x\n{card.BEGIN}\n{card.END}\n{card.BEGIN}\n{card.END}\n", "broken_markers"),
    "its markers the wrong way round": (f"# x\n{card.END}\n{card.BEGIN}\n", "broken_markers"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_card_is_refused_whole_with(sentence: str, predicate: dict[str, Any], tmp_path: Path) -> None:
    text, kind = REFUSED[sentence]
    with pytest.raises(DataError) as error:
        card.update_card(text, predicate)
    assert error.value.kind == kind
    released = release(tmp_path, card=text)
    result = run_command("certify", NAME, "--model-dir", released.folder, "--sign", released.private, "--ledger", released.ledger)
    assert result.exception.kind == kind and (released.folder / "README.md").read_text() == text
    assert not (released.folder / "forebear").exists()


def test_a_card_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    released = release(tmp_path)
    (released.folder / "README.md").write_bytes(b"# caf\xe9\n")
    result = run_command("certify", NAME, "--model-dir", released.folder, "--ledger", released.ledger)
    assert result.exception.kind == "unreadable_card" and (released.folder / "README.md").read_bytes() == b"# caf\xe9\n"


def test_a_folder_without_a_readme_gets_one(tmp_path: Path) -> None:
    released = certified(tmp_path, card=None)
    assert parsed((released.folder / "README.md").read_text())["base_model"] == ["acme/base-7b"]


HOSTILE = '<script>alert(1)</script> --> | `x` [a](http://evil) ![i](x) https://evil.example www.evil.example "q" *b* _c_ &amp;'


def hostile_predicate(tmp_path: Path) -> dict[str, Any]:
    released = release(tmp_path, record={"models": [{"name": "acme/placeholder", "ancestry": "closed"}]})
    record = base_record(released.world)
    record["models"][0]["name"] = HOSTILE
    record["models"][2]["parents"][0]["model"] = HOSTILE
    record["datasets"][0]["name"] = record["models"][0]["trained_on"][0]["dataset"] = f"{HOSTILE}\\"
    from certified import add_lineage

    add_lineage(released.world.ledger, record)
    return described(claims(Session.open(released.ledger), NAME))


def test_hostile_names_stay_text_in_markdown_and_yaml(tmp_path: Path) -> None:
    said = hostile_predicate(tmp_path)
    text = card.update_card("# Chat\n", said).text
    section = card.find_section(text)
    assert section is not None
    body = section.removeprefix(card.BEGIN).removesuffix(card.END)
    assert not re.search(r"<[a-z!/]|-->|\]\(|https?://|www\.", body), body
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1, "no name adds a column"
    front = yaml.safe_load(text.split("---\n")[1])
    assert "base_model" not in front, "a name that the hub would refuse does not enter its fields"
    assert parsed(text)["forebear"]["verdict"] == said["verdict"]


@given(st.text(max_size=60))
def test_escaped_markdown_holds_no_structure(text: str) -> None:
    from forebear.tracer.certify.escape import markdown_text

    found = markdown_text(text)
    assert not set(re.sub(r"&#\d+;", "", found)) & set("<>|`[]!*#\\\n\r\"'~=+{}$^@")
