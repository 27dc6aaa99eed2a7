/* cli_opts_baseline.h - the options of `redoubt baseline`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_BASELINE_H
#define REDOUBT_CLI_OPTS_BASELINE_H

#include "cli/cmd.h"
#include <stddef.h>

static const struct cli_opt baseline_check_opts[] = {
    {"key", 0, CLI_TEXT, "BASE64", offsetof(struct opts_baseline, key), 0, 0,
     "the public key by which it must be signed"},
};
static const struct cli_opt baseline_show_opts[] = {
    {"help-text", 0, CLI_FLAG, NULL, offsetof(struct opts_baseline, help_text), 0, 0,
     "with what each key means and allows, as comments"},
};
static const struct cli_opt baseline_sign_opts[] = {
    {"by", 0, CLI_TEXT, "NAME", offsetof(struct opts_baseline, by), 0, 0, "who signs it off; required"},
    {"key", 0, CLI_TEXT, "FILE", offsetof(struct opts_baseline, key), 0, 0,
     "secret key of `redoubt baseline keygen` (default: its hash alone)"},
};
static const struct cli_opt baseline_status_opts[] = {
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_baseline, json), 0, 0, "JSON instead of text"},
};

#endif
