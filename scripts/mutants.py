"""Undo one line of code after another and see a test fail for each: ``make mutants``.

The lines are the orders of commits, boundaries and reasons that values alone do not hold: without
its test, each of these changes left the suite green. A copy of the tree is changed, so that the
work in the tree goes on meanwhile. Takes a few minutes and is not part of CI.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLIENT = "tests/core/models/test_client.py"
CONFIGURE = "tests/core/models/test_configure.py"
GUARDS = "tests/core/test_guards.py"
SECRECY = "tests/core/config/test_secrecy.py"
FOREIGN = "tests/core/store/test_foreign_files.py"
ODD_FILES = "tests/core/indexing/test_odd_files.py"
LOCAL_SERVER = "tests/core/services/test_local_server.py"
GIT_SOURCES = "tests/core/documents/test_git_sources.py"
HOSTILE = "tests/core/test_hostile_trees.py"
REPOSITORIES = "tests/core/documents/test_repositories.py"
APART = "tests/core/documents/test_apart.py"
SECRETS = "tests/core/documents/test_secrets.py"
SELECTION = "tests/core/documents/test_selection.py"
TURN_TOOLS = "tests/core/agent/test_turn_tools.py"
CODE = "tests/core/chunking/test_code.py"
OLD_INDEX = "tests/core/indexing/test_old_index.py"
OFFICE = "tests/core/documents/test_office.py"
HOSTILE_OFFICE = "tests/core/documents/test_office_hostile.py"
LABELS = "tests/core/indexing/test_labels.py"
SIBLINGS = "tests/core/indexing/test_siblings.py"
FRESHNESS = "tests/core/retrieval/test_freshness.py"
COMBINING = "tests/core/retrieval/test_combining.py"
PRIORS = "tests/core/retrieval/test_priors.py"
MIXED = "tests/core/retrieval/test_mixed_documents.py"

LEXICAL = "tests/core/retrieval/test_lexical.py"
TOKENS = "tests/core/store/test_tokens.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change that must not go unnoticed.

    Attributes:
        why: What is wrong then.
        old: A text that stands in the code exactly once.
        new: What takes its place.
        tests: The tests that must fail, as pytest names them.
    """

    why: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant(
        "words are found by the stems of their text's language",
        "whole = _join([base, *(lists[stem] for stem in stems[term.base])])",
        "whole = base",
        LEXICAL + "::test_words_are_found_by_their_forms_in_the_language_of_the_text",
    ),
    Mutant(
        "a few short words in code make no text of another language",
        "_LEAST_FREQUENT = 5",
        "_LEAST_FREQUENT = 2",
        TOKENS,
    ),
    Mutant(
        "the most frequent words decide for English where it has as many",
        "np.bincount(row[frequent & 1 > 0], minlength=rows), _LEAST_FREQUENT - 1",
        "np.zeros(rows, dtype=np.int64), _LEAST_FREQUENT - 1",
        TOKENS,
    ),
    Mutant(
        "what is beyond the budget is given all the same",
        "        if (room := tokens - used - _cost_of_head(hit)) < _LEAST_TOKENS:",
        "        if (room := tokens) < _LEAST_TOKENS:",
        "tests/core/retrieval/test_budget.py",
    ),
    Mutant(
        "a hit is trimmed from its begin on",
        "        if (value, hits) > best:",
        "        if (value, hits) < best:",
        "tests/core/retrieval/test_budget.py",
    ),
    Mutant(
        "lines that stand in several places are of no one",
        "    if lines.now.find(wanted, found + 1) >= 0:",
        "    if False:",
        FRESHNESS,
    ),
    Mutant(
        "what is beyond the bound is not read",
        "(size > room and not whole)",
        "False",
        FRESHNESS,
    ),
    Mutant(
        "marks are compared with a reading that makes marks",
        "if _MARK.search(then):",
        "if False:",
        FRESHNESS,
    ),
    Mutant(
        "a strategy counts for nothing on what only another found",
        "        if passage not in own and candidate.index is result.index\n",
        "        if passage not in own and candidate.index is None\n",
        f"{COMBINING}::test_what_only_one_strategy_found_has_the_score_of_the_other",
    ),
    Mutant(
        "a rare word of the query weighs no more than another",
        "    reached = COVERED + RARE * rare\n",
        "    reached = COVERED\n",
        f"{COMBINING}::test_words_weigh_most_where_one_chunk_holds_a_rare_word",
    ),
    Mutant(
        "tests stand behind also where the query asks for tests",
        "    return 0.0 if role in asked.kinds else BEHIND.get(role, 0.0)\n",
        "    return BEHIND.get(role, 0.0)\n",
        f"{PRIORS}::test_what_the_query_asks_for_is_not_behind",
    ),
    Mutant(
        "secrets are embedded and indexed as they are",
        "        read = _mask(read, [*(secret.mask for secret in found), *masks])\n",
        "        read = _mask(read, masks)\n",
        f"{SECRETS}::test_the_three_modes",
    ),
    Mutant(
        "identifiers of capitals alone are not looked at",
        " or text.find(_AMAZON, start, end) >= 0\n",
        "\n",
        "tests/core/documents/test_long_runs.py",
    ),
    Mutant(
        "a token whose name stands before its run is not found",
        "text[max(0, start - _BEFORE) : reached]",
        "text[start:reached]",
        f"{SECRETS}::test_what_a_rule_describes_is_found",
    ),
    Mutant(
        "a model is shown the secrets of an index that keeps them",
        "            redact_secrets(hit.text),\n",
        "            hit.text,\n",
        f"{TURN_TOOLS}::test_no_secret_of_a_passage_reaches_the_model_or_the_answer",
    ),
    Mutant(
        "files that hold secrets by nature are indexed where they are tracked",
        '            secret = "" if self._keep_secrets else refuse_secret_path(absolute)\n',
        '            secret = "" if self._keep_secrets or root else refuse_secret_path(absolute)\n',
        f"{SECRETS}::test_a_file_of_secrets_is_left_out_also_when_it_is_tracked",
    ),
    Mutant(
        "`include` further up wins over an exclusion further down",
        "        if excluded:\n            return Standing(excluded,",
        "        if excluded and not above.included:\n            return Standing(excluded,",
        f"{SELECTION}::test_the_rule_that_names_what_is_further_down_decides",
    ),
    Mutant(
        "a folder is left out as a tool's by its name alone",
        "    if rule.beside and not _seen(rule.beside, above):\n",
        "    if False:\n",
        f"{SELECTION}::test_sources_in_a_folder_of_such_a_name_are_kept",
    ),
    Mutant(
        "a comment that only forbids to edit makes a file generated",
        " or re.match(_SAID, sentence, _MANY_LINES):\n",
        " or re.search(_FORBIDDEN, sentence, re.IGNORECASE):\n",
        "tests/core/documents/test_read.py",
    ),
    Mutant(
        "the pointer of a file in Git LFS is indexed in place of the file",
        "    if _LFS_POINTER.match(data):\n",
        "    if False:\n",
        "tests/core/documents/test_read.py::test_a_pointer_of_git_lfs_is_named",
    ),
    Mutant(
        "a pattern that names a whole label is not looked at",
        "elif self._label and path in _BASE:",
        "elif False:",
        f"{LABELS}::test_what_is_left_out_and_taken_back_is_named_by_labels",
    ),
    Mutant(
        "a path with brackets below a label is taken for a pattern",
        "    return os.path.lexists(base / path.removeprefix(label))",
        "    return os.path.lexists(base / path)",
        f"{LABELS}::"
        "test_a_pattern_below_a_label_that_is_a_path_to_the_letter_stands_for_that_alone",
    ),
    Mutant(
        "vectors of other weights under the same name are taken from another index",
        "model is None or closeness(sample, model.drift_sample) >= LEAST_CLOSENESS",
        "model is None or bool(sample)",
        f"{SIBLINGS}::test_vectors_of_another_model_are_not_taken",
    ),
    Mutant(
        "an index that everybody can write is trusted",
        "in zip(range(MOST_SIBLINGS), filter(_is_own, shared), strict=False):",
        "in zip(range(MOST_SIBLINGS), shared, strict=False):",
        f"{SIBLINGS}::test_what_others_could_have_written_is_not_read",
    ),
    Mutant(
        "a damaged index beside ends the run",
        "            except (MerganserError, OSError, ValueError, duckdb.Error):\n"
        "                continue  # damaged, or gone by now",
        "            except KeyError:\n                continue",
        f"{SIBLINGS}::test_what_fails_in_mid_run_is_embedded",
    ),
    Mutant(
        "a second work tree pays for every vector again",
        "store.on_missing = partial(self._copy_from_siblings, store, self._siblings)",
        "pass",
        f"{SIBLINGS}::test_the_same_commit_in_another_work_tree_embeds_nothing",
    ),
    Mutant(
        "the report leads wherever an edited table says",
        'url if str(url := source.get("url") or "").startswith("https://") else "",',
        'source.get("url") or "",',
        "tests/core/report/test_batch_report.py::"
        "test_a_browser_shows_the_answers_failed_ones_first_and_alone",
    ),
    Mutant(
        "a library that reads a document opens an address or starts a program",
        "    sys.addaudithook(_refuse)\n",
        "",
        "tests/core/documents/test_apart.py::test_a_file_that_harms_its_reader_fails_alone",
    ),
    Mutant(
        "a library that reads a document writes files",
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n",
        "",
        "tests/core/documents/test_apart.py::test_a_file_that_harms_its_reader_fails_alone",
    ),
    Mutant(
        "a cited page that nobody retrieved is no failure",
        "        elif placed and numbers_of(written):",
        "        elif placed and not written:",
        "tests/core/agent/test_citations.py",
    ),
    Mutant(
        "segments of before there were places cannot be read",
        '        lacks = f"s{segment}.place" not in self._later_columns\n',
        "        lacks = False\n",
        OLD_INDEX,
    ),
    Mutant(
        "segments of before there were places cannot be copied",
        "INSERT INTO new.{table} BY NAME SELECT",
        "INSERT INTO new.{table} SELECT",
        OLD_INDEX,
    ),
    Mutant(
        "columns of a page are read across",
        "_by_columns(text) or text.get_text_bounded()",
        "text.get_text_bounded()",
        "tests/core/documents/test_pdf.py",
    ),
    Mutant(
        "rows of a table are read as columns",
        "    if not _are_columns(runs, gutter):\n",
        "    if False:\n",
        "tests/core/documents/test_pdf.py",
    ),
    Mutant(
        "a picture's name in memory is text of a notebook",
        "    if any(key.startswith(_PICTURES) and value for key, value in data.items()):\n",
        "    if False:\n",
        "tests/core/documents/test_notebook.py",
    ),
    Mutant(
        "a small package unpacks to all memory",
        "        if len(data) > MAX_PART_BYTES:\n",
        "        if len(data) > MAX_BYTES:\n",
        HOSTILE_OFFICE,
    ),
    Mutant(
        "many parts unpack to all memory",
        "        if self._room < 0:\n",
        "        if self._room == 0:\n",
        HOSTILE_OFFICE,
    ),
    Mutant(
        "XML of strangers declares entities",
        "    parser.EntityDeclHandler = refuse\n",
        "    del refuse\n",
        HOSTILE_OFFICE,
    ),
    Mutant(
        "elements nest without end",
        '        if depth > MAX_DEPTH:\n            raise SkipDocument("hostile"',
        '        if depth < 0:\n            raise SkipDocument("hostile"',
        HOSTILE_OFFICE,
    ),
    Mutant(
        "a passage of slides names several",
        "        if child.start in walls:\n",
        "        if not walls:\n",
        MIXED,
    ),
    Mutant(
        "rows come without the names of their columns",
        "        is_needed = table.header < first_line and table.first <= last_line\n",
        "        is_needed = False\n",
        OFFICE,
    ),
    Mutant(
        "hidden text of a Word document is found",
        '        if (vanish := properties.find("vanish")) is not None:\n',
        '        if (vanish := properties.find("vanished")) is not None:\n',
        OFFICE,
    ),
    Mutant(
        "other versions of the grammars go on with the chunks of the old ones",
        '            "grammars": grammar_versions() if self.code_aware else (),\n',
        "",
        "tests/core/chunking/test_options.py",
    ),
    Mutant(
        "a file whose grammar raises fails instead of being cut as text",
        "    except Exception:  # noqa: BLE001 - grammars are others' code",
        "    except ZeroDivisionError:  #",
        "tests/core/chunking/test_components.py",
    ),
    Mutant(
        "bodies of a deep tree are joined until Python's stack ends",
        "        if self._is_list(node.type) or depth >= _MAX_DEPTH:\n",
        "        if self._is_list(node.type):\n",
        "tests/core/chunking/test_components.py",
    ),
    Mutant(
        "a chunk ends inside a word",
        "    if limits.sentences:\n        return _word_break(text, start, stop)\n",
        "",
        "tests/core/chunking/test_boundaries.py",
    ),
    Mutant(
        "`defaults: cagent` leaves our chunking",
        '    if config.spec.defaults == "cagent" or "chunking" in strategy.model_fields_set:\n',
        '    if "chunking" in strategy.model_fields_set:\n',
        "tests/core/config/test_resolve.py",
    ),
    Mutant(
        "a quoted line end parts a row of a table",
        "        if odd[at] and quoted.search(",
        "        if False and quoted.search(",
        "tests/core/chunking/test_outlines.py::"
        "test_each_chunk_of_a_table_has_the_header_and_whole_rows",
    ),
    Mutant(
        "a line like a heading inside a block of AsciiDoc begins a section",
        "                at = same[following] + 1\n",
        "                pass\n",
        "tests/core/chunking/test_outlines.py::test_headings_of_asciidoc_stand_outside_blocks",
    ),
    Mutant(
        "filters of the user's settings run where a clone is checked out",
        "    return _run(folder, arguments, _NO_SETTINGS, told=None)\n",
        "    return _run(folder, arguments, {}, told=None)\n",
        GIT_SOURCES,
    ),
    Mutant(
        "files of two commits serve after an update that failed half-way",
        "            if clone is None or (left := _read(folder)) is None or left.pending:\n",
        "            if clone is None:\n",
        GIT_SOURCES,
    ),
    Mutant(
        "a submodule or a setting names a program as a transport",
        '            "GIT_ALLOW_PROTOCOL": allowed,\n',
        '            "GIT_ALLOW_PROTOCOL": f"{allowed}:ext",\n',
        GIT_SOURCES,
    ),
    Mutant(
        "text in a table but in no cell is hidden with the table",
        "        return self._before_table() if current.name in IN_TABLE else current.state\n",
        "        return current.state\n",
        "tests/core/documents/test_html.py::test_what_a_reader_sees_is_read",
    ),
    Mutant(
        "what a block left open is no longer hidden in the next one",
        "            self._reconstruct()\n\n    def start(",
        "            pass\n\n    def start(",
        "tests/core/documents/test_html_browser.py",
    ),
    Mutant(
        "a template loses the code in its tags",
        "    if _TEMPLATE.search(source):\n",
        "    if False:\n",
        "tests/core/documents/test_html.py::test_a_template_is_read_as_it_is",
    ),
    Mutant(
        "a request that the server dies of is sent for ever while others are answered",
        "        began = min(outage.began, since)\n",
        "        began = outage.began\n",
        "tests/core/models/test_outage.py::"
        "test_a_request_that_fails_while_others_are_answered_ends_too",
    ),
    Mutant(
        "DuckDB takes all cores whatever --threads says",
        'config=_CLOSED | ({"threads": limit} if limit else {})',
        "config=_CLOSED",
        "tests/core/test_threads.py::test_connections_of_duckdb_take_no_more_threads",
    ),
    Mutant(
        "a text that is too long has its neighbours sent again at each halving",
        "            return await self._embed_apart(texts, prefix)\n",
        "            return await self._embed_halves(texts, prefix)\n",
        "tests/core/embedding/test_embedder.py::"
        "test_one_text_of_a_request_that_is_too_long_costs_its_neighbours_one_more_request",
    ),
    Mutant(
        "what a dead run left takes the place of the journal of that name",
        "        path = next(path for path in paths if not path.exists())\n",
        "        path = next(paths)\n",
        "tests/core/store/test_embeddings.py::test_what_is_taken_in_never_replaces_the_whole_journal_of_that_name",
    ),
    Mutant(
        "the answer of a reader that was interrupted is taken for the next file's",
        "this file\n                    self.close()\n",
        "this file\n",
        f"{APART}::test_an_answer_that_nobody_took_is_not_that_of_the_next_file",
    ),
    Mutant(
        "all that wait ask a server that is away at each pause",
        "            if now < outage.next_try:\n                return False",
        "            if now < outage.began:\n                return False",
        "tests/core/models/test_outage.py::test_of_many_requests_one_speaks_and_one_asks_at_a_time",
    ),
    Mutant(
        "a killed run loses the answers of the shard under way",
        "                store.recover()\n",
        "",
        "tests/core/indexing/test_paid.py::test_a_run_that_is_killed_pays_again_for_the_requests_under_way_alone",
    ),
    Mutant(
        "a folder that others may write says which server and password are ours",
        "if found.st_mode & stat.S_IWOTH or (user and found.st_uid not in {user, 0}):",
        "if False:",
        f"{LOCAL_SERVER}::test_a_folder_that_others_may_write_is_not_trusted",
    ),
    Mutant(
        "the local Prefect server answers to a name that resolves to this machine",
        "if len(hosts) != 1 or not is_local(hosts[0]):",
        "if len(hosts) != 1:",
        f"{LOCAL_SERVER}::test_another_name_is_refused_even_with_the_password",
    ),
    Mutant(
        "the local Prefect server answers a page of another site",
        "if any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins):",
        "if False:",
        f"{LOCAL_SERVER}::test_a_page_of_another_site_is_refused_even_with_the_password",
    ),
    Mutant(
        "a key that an environment variable is set to stays in the text",
        "bool(match.groups()) or _begins_alone(text, span[0])",
        "_begins_alone(text, match.start())",
        "tests/core/documents/test_secrets.py::"
        "test_every_kind_of_token_is_hidden_wherever_it_stands",
    ),
    Mutant(
        "the local Prefect server lets everybody in",
        "        AUTH_VARIABLE: login,\n",
        "",
        f"{LOCAL_SERVER}::test_nobody_is_let_in_without_the_password",
    ),
    Mutant(
        "whatever listens at the server's port is taken for ours",
        "secrets.compare_digest(given, proof(service.token, nonce, port).encode())",
        "True",
        f"{LOCAL_SERVER}::test_a_stranger_at_the_address_is_not_taken_for_ours_and_hears_no_secret",
    ),
    Mutant(
        "a process that got the number of a dead one is taken for a service",
        "about.stat().st_uid == os.getuid() and SUPERVISOR.encode() in line",
        "True",
        f"{LOCAL_SERVER}::"
        "test_a_process_that_got_the_number_of_a_dead_one_is_neither_used_nor_ended",
    ),
    Mutant(
        "an older segment that was copied back is served",
        "    if expected and (found is None or found.id != expected):",
        "    if False:",
        "tests/core/store/test_damage.py::test_an_older_segment_copied_back_is_noticed",
    ),
    Mutant(
        "an index run says unchanged over a damaged segment",
        "        check_segments(folder, base.segments)\n",
        "        pass\n",
        "tests/core/store/test_damage.py::"
        "test_damage_is_told_by_search_and_by_index_which_never_says_unchanged",
    ),
    Mutant(
        "what is deleted stays in a small segment",
        "if self.row_count <= SMALL_SEGMENT_ROWS or dead",
        "if dead",
        "tests/core/indexing/test_snapshots.py::"
        "test_what_is_deleted_is_on_no_disk_when_its_last_snapshot_goes",
    ),
    Mutant(
        "a repair pays again for what a damaged segment still has",
        "                self._salvage(store)\n",
        "",
        "tests/core/store/test_damage.py::test_a_repair_embeds_only_what_is_gone",
    ),
    Mutant(
        "one refused flag ends the run",
        "            if not flags:\n                raise\n            told +=",
        "            if flags or not flags:\n                raise\n            told +=",
        f"{CONFIGURE}::test_what_is_refused_is_left_out_at_its_line_and_the_rest_stands",
    ),
    Mutant(
        "a pooling that was left out is claimed",
        "        await upkeep.ensure()\n        return upkeep.use.model",
        "        return upkeep.use.model",
        f"{CONFIGURE}::test_vectors_are_claimed_for_what_stands_only",
    ),
    Mutant(
        "another registry's model is taken for the one that was asked for",
        "return found if found.tags and await _serves(connection, ref) else None",
        "return found if found.tags else None",
        f"{CLIENT}::test_a_model_of_a_registry_that_is_not_the_default_is_another",
    ),
    Mutant(
        "a file of the folder that one works in sets something of Prefect",
        '**{**options, "env_file": None}',
        "**options",
        f"{HOSTILE}::test_no_file_of_the_working_folder_sets_anything_of_prefect",
    ),
    Mutant(
        "a service takes its settings from the folder of whoever starts it",
        "            cwd=merganser_home(),\n",
        "",
        "tests/core/services/test_services.py",
    ),
    Mutant(
        "an answer sets the title of the terminal",
        "click.echo(visible(text), err=err, nl=nl)",
        "click.echo(text, err=err, nl=nl)",
        "tests/core/cli/test_terminal.py::test_an_answer_is_shown_as_it_is_written",
    ),
    Mutant(
        "a link of a model's is one in the UI",
        'return _LINK_START.sub("&#91;", text.replace("<", "&lt;"))',
        'return text.replace("<", "&lt;")',
        "tests/tasks/test_artifacts.py::test_a_hostile_text_makes_no_link_and_no_picture",
    ),
    Mutant(
        "somebody's notes are overwritten by answers",
        "        is_ours = may_hold_answers(output) and all(",
        "        is_ours = all(",
        "tests/core/batch/test_batch.py::test_a_file_of_somebody_else_is_overwritten_only_if_asked",
    ),
    Mutant(
        "extends reads a file of any name",
        "    if not may_quote(base_path, *YAML_SUFFIXES):\n",
        "    if False:\n",
        f"{SECRECY}::test_extends_reads_no_file_that_is_not_named_as_yaml",
    ),
    Mutant(
        "a link's own name says that it is YAML",
        " and path.resolve().suffix.lower() in suffixes",
        "",
        f"{SECRECY}::test_a_config_that_is_no_yaml_is_not_quoted",
    ),
    Mutant(
        "a login is in an excerpt",
        "        self.source_line = mask_credentials(source_line)\n",
        "        self.source_line = source_line\n",
        f"{SECRECY}::test_a_login_beside_a_mistake_is_in_no_message",
    ),
    Mutant(
        "a view of an index file is run",
        '    if found:\n        raise _foreign(str(path), "view", found[0][0])\n',
        "",
        f"{FOREIGN}::test_a_view_in_place_of_a_table_is_refused_by_name",
    ),
    Mutant(
        "an index file with macros is opened",
        "            refuse_macros(self._connection)\n",
        "",
        f"{FOREIGN}::test_a_macro_is_refused_by_name",
    ),
    Mutant(
        "a connection to an index reads any file",
        '    connection.execute("SET enable_external_access = false").fetchall()\n',
        "",
        f"{FOREIGN}::test_a_connection_reaches_its_folder_only",
    ),
    Mutant(
        "a snapshot names a segment of another folder",
        "        if not is_segment_name(row.file):\n",
        "        if not row.file:\n",
        f"{FOREIGN}::test_a_segment_elsewhere_is_refused",
    ),
    Mutant(
        "a page whose name resolves to this machine reads the runner",
        "elif not self._any_host and not is_local(",
        "elif False and not is_local(",
        "tests/core/runner/test_server.py",
    ),
    Mutant(
        "a worker runs a command that somebody gave a run",
        "        refuse_foreign(self, deployment, self.allowed)\n",
        "",
        "tests/flows/test_foreign_runs.py",
    ),
    Mutant(
        "a work tree's monitor of the file system runs",
        '    *("-c", "core.fsmonitor=false"),\n',
        "",
        "tests/core/test_hostile_trees.py",
    ),
    Mutant(
        "a partial clone fetches what it lacks",
        '    *("-c", "protocol.allow=never"),\n',
        "",
        "tests/core/test_hostile_trees.py",
    ),
    Mutant(
        "git is looked up in the folder that it is called in",
        'if entry[:1] == "/"',
        "if entry",
        "tests/core/test_hostile_trees.py",
    ),
    Mutant(
        "a search imports modules of the folder that one works in",
        '[sys.executable, "-P", "-c", program]',
        '[sys.executable, "-c", program]',
        "tests/core/test_hostile_trees.py",
    ),
    Mutant(
        "a folder that becomes a link is entered",
        "os.open(folder, FOLDER | _PASS, dir_fd=descriptor)",
        "os.open(folder, os.O_RDONLY, dir_fd=descriptor)",
        "tests/core/agent/test_filesystem.py",
    ),
    Mutant(
        "what the rags leave out is read by its name",
        "if standing.excluded:\n            raise FilesystemError",
        "if False:\n            raise FilesystemError",
        "tests/core/agent/test_filesystem.py",
    ),
    Mutant(
        "what the rags leave out is listed",
        "not (ignored or standing.excluded)",
        "not ignored",
        "tests/core/agent/test_filesystem.py",
    ),
    Mutant(
        "long lines of JSON are left out as minified",
        "not (is_code or language in _UNSTRUCTURED)",
        "False",
        "tests/core/documents/test_read.py",
    ),
    Mutant(
        "an ignored file is read by its name",
        "        if self._is_ignored(real):\n",
        "        if False:\n",
        "tests/core/agent/test_filesystem.py",
    ),
    Mutant(
        "an embedder's fingerprint without the prefix of documents",
        '            "document_prefix": self.prompts.document,\n',
        "",
        f"{GUARDS}::test_another_prefix_is_another_embedder",
    ),
    Mutant(
        "a change is not seen by the inode",
        "        seen.inode,\n",
        "        document.inode,\n",
        f"{GUARDS}::test_a_file_replaced_by_one_of_its_size_and_time_is_read",
    ),
    Mutant(
        "the change time of a file is not looked at",
        "    if seen.ctime_ns and document.ctime_ns != seen.ctime_ns:\n",
        "    if False:\n",
        f"{ODD_FILES}::test_a_rewrite_that_keeps_size_time_and_inode_is_seen_by_the_change_time",
    ),
    Mutant(
        "a star of an ignore rule tries all places",
        'f"(?>[^/]*?{fixed})"',
        'f"(?:[^/]*?{fixed})"',
        f"{REPOSITORIES}::test_a_rule_full_of_stars_takes_no_time",
    ),
    Mutant(
        "a reader of its own may take all memory",
        "        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))\n",
        "        pass\n",
        f"{APART}::test_a_file_that_harms_its_reader_fails_alone",
    ),
    Mutant(
        "a file is failed for what the files before it did to their reader",
        "                if not is_used or why == _TOO_LONG:\n",
        "                if True:\n",
        f"{APART}::test_what_files_before_did_to_the_process_is_no_fault_of_the_next",
    ),
    Mutant(
        "a parser may look ahead to the end of the file for each token",
        "or reads > most_reads\n",
        "\n",
        f"{CODE}::test_junk_that_makes_the_parser_wander_is_given_up_after_a_number_of_steps",
    ),
    Mutant(
        "a linked worktree is one more repository",
        "    if main is not None and (_is_within(main, root) or _is_within(root, main)):\n",
        "    if False:\n",
        f"{REPOSITORIES}::test_a_linked_worktree_beside_its_main_one_is_left_out",
    ),
    Mutant(
        "a submodule that is not checked out is entered",
        '    if empty:\n        return iter([Listed("./", "submodule"',
        '    if False:\n        return iter([Listed("./", "submodule"',
        f"{REPOSITORIES}::test_a_submodule_that_is_not_checked_out_is_named",
    ),
    Mutant(
        "an unforeseen fault of a chunker ends the run",
        "    except Exception as error:  # noqa: BLE001 - any fault of a chunker\n",
        "    except ValueError as error:\n",
        f"{ODD_FILES}::test_any_fault_in_one_file_fails_that_file_alone",
    ),
    Mutant(
        "an unforeseen fault of an encoder ends the run",
        "    return not isinstance(error, MerganserError | OSError)\n",
        "    return False\n",
        f"{ODD_FILES}::test_any_fault_in_one_file_fails_that_file_alone",
    ),
    Mutant(
        "another tokeniser changes nothing",
        '        "tokeniser": (str(TOKENISER_VERSION), "the tokeniser changed"),\n',
        "",
        f"{GUARDS}::test_another_tokeniser_indexes_everything_again",
    ),
    Mutant(
        "a server that is away costs every question of a batch",
        "        if not journal.answered_within(error.seconds / 2):\n            raise\n",
        "",
        "tests/core/batch/test_batch.py::test_a_server_that_is_away_ends_the_shard_and_leaves_its_questions",
    ),
    Mutant(
        "an answer that breaks is asked for without end",
        "    if times < MOST_BROKEN_ANSWERS:\n",
        "    if times:\n",
        "tests/core/agent/test_turn.py::test_an_answer_that_breaks_is_asked_for_again_but_not_for_ever",
    ),
    Mutant(
        "a streamed answer may be of any size",
        "                most_bytes=MOST_ANSWER_BYTES,\n",
        "                most_bytes=1 << 62,\n",
        "tests/core/models/test_untrusted_streams.py::test_a_stream_that_is_too_large_is_not_read_on",
    ),
    Mutant(
        "a line of a pull may be of any size",
        "        if len(rest) > _MOST_LINE_BYTES or size > _MOST_STREAM_BYTES:\n",
        "        if False:\n",
        "tests/core/models/test_untrusted_streams.py::test_an_odd_line_of_a_pull_ends_it",
    ),
    Mutant(
        "a download goes on beyond its pinned file",
        "                if done > most_bytes:\n",
        "                if False:\n",
        "tests/core/runner/test_weights.py::test_a_hub_that_gives_more_than_the_pinned_file_is_not_read_on",
    ),
    Mutant(
        "a header without questions is an error in every row",
        "                _check_columns(path, list(row))\n",
        "                pass\n",
        "tests/core/batch/test_questions.py::test_a_csv_without_the_column_is_one_error_with_its_columns",
    ),
    Mutant(
        "the journal of a batch goes before its table is written",
        "            write_rows(self.output, self.rows())\n"
        "            self.partial.unlink(missing_ok=True)\n",
        "            self.partial.unlink(missing_ok=True)\n"
        "            write_rows(self.output, self.rows())\n",
        f"{GUARDS}::test_answers_stay_in_the_partial_file_until_the_table_is_written",
    ),
    Mutant(
        "a received shard is done before its chunks are there",
        "            chunks_path(workspace, receipt.number),\n"
        "            result_path(workspace, receipt.number),\n",
        "            result_path(workspace, receipt.number),\n"
        "            chunks_path(workspace, receipt.number),\n",
        f"{GUARDS}::test_a_received_shard_is_done_only_when_its_chunks_are_there",
    ),
    Mutant(
        "BM25 prunes by a bound that is too low",
        "left += float(idf[i]) * weighing.most + lists[i].lift",
        "left += float(idf[i]) * weighing.most / 2 + lists[i].lift",
        f"{GUARDS}::test_a_chunk_full_of_a_frequent_word_outweighs_a_rare_one",
    ),
    Mutant(
        "`--pull never` pulls",
        '        raise ModelNotFoundError(f"{where} and --pull is never; pull it: '
        '{pull_command(name)}")\n',
        "        return True\n",
        "tests/flows/test_models.py::"
        "test_never_pulls_nothing_and_names_the_pull_command_and_who_wants_the_model",
    ),
    Mutant(
        "a fall of exactly what is allowed fails",
        "before - value > threshold.max_drop + _EXACT",
        "before - value >= threshold.max_drop",
        f"{GUARDS}::test_a_figure_may_fall_by_exactly_what_is_allowed",
    ),
    Mutant(
        "a fall of exactly the tolerance fails",
        "before - value > threshold.max_drop + _EXACT",
        "before - value >= threshold.max_drop + _EXACT",
        f"{GUARDS}::test_a_figure_may_fall_by_exactly_what_is_allowed",
    ),
    Mutant(
        "the drift of a model is measured by the mean of its texts",
        ".sum(axis=1).min())",
        ".sum(axis=1).mean())",
        f"{GUARDS}::test_a_model_that_changed_for_one_kind_of_text_is_another_model",
    ),
    Mutant(
        "an attempt that took long to fail is repeated",
        "None if slow else policy.pause_seconds(attempt, error)",
        "policy.pause_seconds(attempt, error)",
        f"{GUARDS}::test_an_attempt_that_took_long_to_fail_is_not_repeated",
    ),
    Mutant(
        "a file that shares a text which cannot be embedded is taken for good",
        '            errors.setdefault(file, "it shares a text that could not be embedded")\n',
        "            del file\n",
        f"{GUARDS}::test_every_file_with_a_text_that_cannot_be_embedded_fails",
    ),
    Mutant(
        "what is left out is told as new by every run that publishes nothing",
        "        record_run(index, run, failures, _noted_skips(report))\n",
        "        record_run(index, run, failures)\n",
        "tests/core/indexing/test_left_out.py::"
        "test_what_is_left_out_is_new_once_in_runs_that_publish_nothing",
    ),
    Mutant(
        "a plan takes files for added that turn out to be none for an index",
        "        added=tuple(path for path in work.added if path not in unread),\n",
        "",
        "tests/core/indexing/test_left_out.py::"
        "test_a_plan_without_a_model_counts_files_chunks_and_what_is_left_out",
    ),
    Mutant(
        "a plan that cannot be run exits with 0",
        "EXIT_FAILED if any(work.problem for work in state.indexes.values()) else 0",
        "0",
        "tests/core/indexing/test_left_out.py::test_a_plan_of_docs_that_name_nothing_ends_with_one",
    ),
    Mutant(
        "a file that only changed its times is told as changed",
        "        same = same or hash_file(document.absolute) == row.content_hash\n",
        "",
        "tests/core/indexing/test_inventory.py::test_each_file_is_told_through_its_life",
    ),
    Mutant(
        "a file's name makes lines of its own in a list",
        """.replace("\\r", "\\\\r").replace("\\n", "\\\\n")""",
        "",
        "tests/core/documents/test_skipping.py::"
        "test_a_name_with_line_ends_stays_on_its_line_and_makes_nothing_of_its_own",
    ),
)


def main() -> int:
    """Try each mutant on a copy of the tree; return how many no test has noticed."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        _copy(tree)
        places = [_find(tree, mutant) for mutant in MUTANTS]
        if _fails(tree, *sorted({mutant.tests for mutant in MUTANTS})):
            raise SystemExit("the tests fail without any change")
        survivors = sum(
            not _is_noticed(tree, mutant, path)
            for mutant, path in zip(MUTANTS, places, strict=True)
        )
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} mutants were noticed")
    return survivors


def _find(tree: Path, mutant: Mutant) -> Path:
    """Return the file with the text; it stops the program when the code has moved on."""
    found = {
        path: path.read_text("utf-8").count(mutant.old)
        for part in ("src", "flows", "tasks")
        for path in (tree / part).rglob("*.py")
        if not path.parent.is_symlink()
    }
    if sum(found.values()) != 1:
        raise SystemExit(f"found {sum(found.values())} times instead of once: {mutant.old!r}")
    return max(found, key=lambda path: found[path])


def _copy(tree: Path) -> None:
    """Copy what git knows or would add, and map the folders that the package consists of."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    for folder in ("flows", "tasks", "configs", "deployments"):
        (tree / "src" / "merganser" / folder).symlink_to(tree / folder)


def _is_noticed(tree: Path, mutant: Mutant, path: Path) -> bool:
    right = path.read_text("utf-8")
    path.write_text(right.replace(mutant.old, mutant.new), "utf-8")
    noticed = _fails(tree, mutant.tests)
    path.write_text(right, "utf-8")
    print(f"{'noticed ' if noticed else 'SURVIVED'}  {mutant.why}", flush=True)
    return noticed


def _fails(tree: Path, *tests: str) -> bool:
    """Run tests against the copy; its sources come before those that are installed."""
    code = (
        "import sys; sys.path.insert(0, 'src'); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-B", "-c", code, "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise SystemExit(f"the tests cannot run:\n{done.stdout}{done.stderr}")
    return done.returncode == 1


if __name__ == "__main__":
    sys.exit(main())
