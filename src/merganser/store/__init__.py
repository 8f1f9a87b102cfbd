"""The index on disk: immutable snapshots in DuckDB files, shared segments, one writer.

``folder`` has the files and the switch between snapshots, ``segments`` and ``catalogue`` write the
files of a snapshot, ``reader`` and ``scans`` read them, ``resident`` keeps them in memory, ``ann``
builds and reads approximate indexes. ``embedding_store`` keeps vectors by content,
``shared_journals`` those that machines share. ``snapshots`` lists, rolls back and collects,
``history`` has one row a run, ``evaluations`` the figures of retrieval. ``tokens`` says what a word
is. What goes into a snapshot is decided in ``merganser.indexing``, what is found in it by
``merganser.retrieval``.
"""
