/* cli.h - the operator's command as rows: commands, their options, the help made from them, and exit codes. */
#ifndef REDOUBT_CLI_H
#define REDOUBT_CLI_H

#include "cli/term.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What scripts can rely on; named in every help text. */
enum cli_exit {
    CLI_OK,
    CLI_FAILED,      /* it failed, or what was asked about is not healthy */
    CLI_USAGE,       /* wrong usage or settings */
    CLI_UNREACHABLE, /* the bus, or the service asked, does not answer */
    CLI_REFUSED,     /* the suite said no */
};

enum cli_opt_kind { CLI_FLAG, CLI_TEXT, CLI_INT, CLI_DURATION };
/* One option. Its value goes to `offset` of the command's own struct: bool, const char *, int64_t, int64_t (ms). */
struct cli_opt {
    const char *name;
    char letter; /* 0 = none */
    enum cli_opt_kind kind;
    const char *arg; /* as help calls the value */
    size_t offset;
    int64_t min, max; /* INT, and DURATION in ms */
    const char *help;
};
#define CLI_OPTS_MAX 16

struct cli;
struct cli_row {
    const char *path; /* its words: "breaker open" */
    const char *args; /* "TARGET", NULL = none */
    int min_args, max_args;
    const char *summary; /* one line */
    const char *text;    /* more for its own help; may be NULL */
    bool connects;       /* takes -c, --nats, --timeout */
    int64_t answer_ms;   /* how long its answer may take; 0 = as long as connecting */
    const struct cli_opt *opts;
    size_t n_opts;
    size_t opts_size;     /* of the struct that opts point into */
    const void *defaults; /* such a struct; NULL = zeroes */
    /* NULL = a group, whose help lists what is below it. argv holds the arguments only. */
    int (*run)(struct cli *c, const void *opts, int argc, char **argv);
    int (*raw)(int argc, char **argv); /* instead of run: reads its options by itself, argv[0] is its last word */
};
extern const struct cli_row cli_rows[]; /* cli_rows.c */
extern const size_t cli_rows_n;

/* What every command gets. */
struct cli {
    const struct cli_row *row;
    struct term out;
    const char *config_path; /* -c, NULL if not given */
    const char *nats_url;    /* --nats, NULL if not given */
    int64_t timeout_ms;      /* for connecting */
    int64_t answer_ms;       /* for each answer */
};

int cli_main(const struct cli_row *rows, size_t n, int argc, char **argv);

/* "redoubt breaker open: TEXT" on stderr; returns `code`. */
__attribute__((format(printf, 3, 4))) int cli_fail(const struct cli *c, int code, const char *fmt, ...);
/* Path of the settings file: -c, then $REDOUBT_CONFIG, then /etc/redoubt/redoubt.yaml. */
const char *cli_config_path(const struct cli *c);
/* The value of a duration as settings have them (`10m`); -1 with the text in why. */
int64_t cli_duration(const char *name, const char *value, int64_t min_ms, int64_t max_ms, char *why, size_t size);
/* "1.2 s", "350 ms", "4 h 10 min": for people. Returns buf. */
const char *cli_span(int64_t ms, char *buf, size_t size);

#endif
