"""The study: a grid of pretrainings and fine-tunings that tests the method's three claims on Scenes.

`arms` says what is compared, `preset` at which size, `jobs` turns both into runs, `grid` executes what is missing and
gathers one JSON, `claims` judges it, `page` writes docs/study.md. `edgevl study` calls `grid.run_study`.
"""
