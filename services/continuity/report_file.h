/* report_file.h - reports on disk: written whole or not at all, and never over what a person has written. Blocks: for a worker thread. */
#ifndef REDOUBT_CONTINUITY_REPORT_FILE_H
#define REDOUBT_CONTINUITY_REPORT_FILE_H

#include "common/err.h"
#include "continuity/report.h"

/* Temporary file, fsync, rename, fsync of the directory. */
int report_file_write(const char *dir, const char *name, const char *ending, const char *text, size_t len,
                      struct err *e);
/* Makes a directory and what is above it. */
int report_file_dir(const char *dir, struct err *e);

/* An incident's report: NAME.md, NAME.html, NAME.proofs.json in dir. */
struct report_files {
    const char *dir, *name;
    bool kept;       /* out: lessons or follow-ups of people were kept */
    char aside[300]; /* out: something else was changed by a person: that version is kept in this file; "" = no */
};
int report_files_write(struct report_files *f, const struct report *r, struct err *e);

#endif
