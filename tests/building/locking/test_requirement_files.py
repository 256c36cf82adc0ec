"""Requirement files mean what they mean to pip."""

from __future__ import annotations

from pathlib import Path

import pytest

from artifact.building.locking import requirement_files
from artifact.building.locking.requirement_files import Parsed
from artifact.errors import UsageError

A = f"sha256:{'a' * 64}"
B = f"sha256:{'b' * 64}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def parse(directory: Path, text: str, **variables: str) -> Parsed:
    path = directory / "requirements.txt"
    path.write_text(text)
    return requirement_files.parse(path, directory, variables)


def test_lines_continue_and_comments_end(tmp_path: Path) -> None:
    found = parse(
        tmp_path,
        f"\ufeff# first\n"
        f"Django_Extensions [a,B] >=1,<2 ; python_version>'3'   # why\n"
        f"six==1.16.0 \\\n  --hash={B} \\\n  --hash={A}  # pinned\n"
        f"flask==2.0 \\\n  # a comment in between ends the line\n"
        f"money#1 --config-settings=a=1 -C 'b=2 3'\n".replace("money#1", "money==1"),
    )
    extensions, six, flask, money = found.entries
    assert (extensions.name, extensions.extras) == ("django-extensions", ("B", "a"))
    assert extensions.specifier == "<2,>=1"
    assert extensions.where == "requirements.txt:2"
    assert (six.hashes, six.where) == ((A, B), "requirements.txt:3")
    assert flask.specifier == "==2.0"
    assert money.settings == ("a=1", "b=2 3")


@pytest.mark.parametrize(
    "text",
    [
        "a==1\nb>=2 # c\n\n  # d\nc\\\n==3\n",
        "a==1 \\\n# comment\nb\n",
        "a; python_version < '3'\nb[x,y]~=1.0;sys_platform=='linux'\n",
        f"a==1 --hash={A} \\\n    --hash {B}\n",
        "a ==${VERSION}\nb==${VERSION}.1\n",
        "-r other.txt\n--requirement=other.txt\n-c other.txt\n",
        "a==1 \\\n\nb==2",
        "--pre\n--index-url https://example.com/simple\n-f https://example.com\na\n",
        "--ind https://example.com/simple\na\n",
        "a===1.0.post1\nA.B_c\n",
    ],
)
def test_pip_reads_the_same_requirements(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pip._internal.network.session import PipSession
    from pip._internal.req.constructors import install_req_from_parsed_requirement
    from pip._internal.req.req_file import parse_requirements

    monkeypatch.setenv("VERSION", "4.5")
    (tmp_path / "other.txt").write_text("included==1\n")
    found = parse(tmp_path, text, VERSION="4.5")
    ours = [
        (entry.name, entry.extras, entry.specifier, entry.marker, entry.hashes)
        for entry in (*found.entries, *found.constraints)
    ]
    theirs = []
    with PipSession() as session:
        for parsed in parse_requirements(str(tmp_path / "requirements.txt"), session):
            one = install_req_from_parsed_requirement(parsed)
            assert one.req is not None
            hashes = sorted(
                f"{name}:{digest}"
                for name, digests in one.hash_options.items()
                for digest in digests
            )
            name = one.req.name.lower().replace(".", "-").replace("_", "-")
            theirs.append(
                (
                    name,
                    tuple(sorted(one.req.extras)),
                    str(one.req.specifier),
                    str(one.markers or ""),
                    tuple(hashes),
                )
            )
    assert sorted(ours) == sorted(theirs)


def test_includes_are_beside_their_file_and_what_constraints_include_constrains(
    tmp_path: Path,
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/base.txt").write_text("-r more.txt\n-c bounds.txt\nbase\n")
    (tmp_path / "deep/more.txt").write_text("more\n")
    (tmp_path / "deep/bounds.txt").write_text("-r bounds2.txt\nbound<1\n")
    (tmp_path / "deep/bounds2.txt").write_text("bound2<2\n")
    found = parse(tmp_path, "-r deep/base.txt\n")
    assert [entry.name for entry in found.entries] == ["more", "base"]
    assert [entry.name for entry in found.constraints] == ["bound2", "bound"]
    assert found.constraints[0].where == "deep/bounds2.txt:1"


def test_options_of_all_files_come_together(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    options = parse(
        tmp_path,
        "--index-url https://${USER}:${TOKEN}@example.com/simple\n"
        "--extra-index-url=https://a.example\n--extra-index-url https://b.example\n"
        "-f links\n--trusted-host a.example\n--pre\n--prefer-binary\n"
        "--no-binary :all:\n--no-binary :none:\n--no-binary Lxml,psycopg2\n--only-binary lxml\n",
        USER="u",
        TOKEN="t",
    ).options
    assert options.index_url == "https://u:t@example.com/simple"
    assert options.extra_index_urls == ("https://a.example", "https://b.example")
    assert options.find_links == (str(tmp_path / "links"),)
    assert (options.no_binary, options.only_binary) == (("psycopg2",), ("lxml",))
    assert options.pre
    assert options.prefer_binary
    assert "u:t" not in repr(options)


def test_links_keep_variables_and_lose_credentials_in_writing(tmp_path: Path) -> None:
    found = parse(
        tmp_path,
        f"a @ git+https://${{TOKEN}}@example.com/a.git@{COMMIT}\n"
        f"b @ git+https://user:secret@example.com/b.git@{COMMIT}#subdirectory=x\n"
        f"git+ssh://git@example.com/c.git@{COMMIT}#egg=c[x]\n"
        f"https://user:secret@example.com/d-1.0-py3-none-any.whl#sha256={A[7:]}\n",
        TOKEN="t0ken",
    )
    a, b, c, d = found.entries
    assert a.link == f"git+https://t0ken@example.com/a.git@{COMMIT}"
    assert a.written == f"git+https://${{TOKEN}}@example.com/a.git@{COMMIT}"
    assert b.written == f"git+https://example.com/b.git@{COMMIT}#subdirectory=x"
    assert (c.name, c.extras) == ("c", ("x",))
    assert c.written == f"git+ssh://git@example.com/c.git@{COMMIT}#egg=c[x]"
    assert (d.name, d.hashes) == ("d", (A,))
    assert "secret" not in repr(found)
    assert "t0ken" not in repr(found)


@pytest.mark.parametrize(
    ("line", "sentence", "hint"),
    [
        ("django==", "'django==' is not a requirement", "name>=1.2"),
        ("django = 3", "'django = 3' is not a requirement", "name>=1.2"),
        ("a; python_version ~~ '3'", "is not a requirement", "python_version"),
        ("--frobnicate", "no such option: --frobnicate", "pip's"),
        ("-r", "-r option requires 1 argument", "pip's"),
        ("a 'b", "is not a requirement", "name"),
        ("a --hash='", "No closing quotation", "pip's"),
        ("-r nothere.txt", "there is no file nothere.txt", "relative to the file"),
        ("-c nothere.txt", "there is no file nothere.txt", "relative to the file"),
        ("-r requirements.txt", "includes itself", "`-r`"),
        ("-r https://example.com/r.txt", "a file on another machine", "commit a copy"),
        ("-e .", "`-e .` is editable", "its own code travels"),
        ("-e ./libs/a", "`-e ./libs/a` is editable", "`./libs/a` without `-e`"),
        ("--editable git+https://h/p@main#egg=a", "is editable", "with the full commit"),
        ("a @ git+https://h/p@main", "'main' is a branch or a tag", "git ls-remote https://h/p"),
        ("a @ git+https://h/p", "names no commit", "full commit"),
        ("a @ git+https://h/p@0123abc", "'0123abc' is a branch or a tag", "full commit"),
        ("git+ssh://git@h/p", "names no commit", "full commit"),
        ("https://h/a-1.0-py3-none-any.whl", "has no hash", "pip hash"),
        ("a @ https://h/a.zip", "has no hash", "pip hash"),
        ("a --hash=md5:00", "'md5:00' is not a hash", "64 hexadecimal"),
        ("a @ git+https://${TOKEN}@h/p@" + COMMIT, "the variable TOKEN is not set", "TOKEN"),
        ("./nothere", "no file or directory ./nothere", "project's directory"),
        ("./empty", "neither pyproject.toml nor setup.py", "a Python project"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_line_and_its_fix(
    tmp_path: Path, line: str, sentence: str, hint: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as caught:
        parse(tmp_path, f"# one\n{line}\n")
    assert caught.value.message.startswith("requirements.txt:2: ")
    assert sentence in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.code == 2


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes(b"a\n\xff\xfe")
    with pytest.raises(UsageError, match="is not UTF-8"):
        requirement_files.parse(tmp_path / "requirements.txt", tmp_path, {})
