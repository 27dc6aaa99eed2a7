/* cli_opts_audit.h - the options of `redoubt audit`, for the rows of cli_rows.c alone. */
#ifndef REDOUBT_CLI_OPTS_AUDIT_H
#define REDOUBT_CLI_OPTS_AUDIT_H

#include "cli/cmd.h"
#include <stddef.h>

static const struct cli_opt verify_opts[] = {
    {"key", 'k', CLI_TEXT, "HEX", offsetof(struct opts_verify, key), 0, 0,
     "the public key that you trust, the present or a former one (default:\nthe directory's own audit.pub, which "
     "whoever "
     "changed the trail could\nchange, too)"},
    {"anchor", 'a', CLI_TEXT, "FILE", offsetof(struct opts_verify, anchor), 0, 0,
     "a checkpoint kept elsewhere: the trail must hold at least that"},
    {"witness", 'w', CLI_TEXT, "VKEY", offsetof(struct opts_verify, witness), 0, 0,
     "NAME+ID+KEY of a witness, who must have signed the newest checkpoint"},
    {"bus", 'b', CLI_FLAG, NULL, offsetof(struct opts_verify, bus), 0, 0,
     "hold it against the checkpoint that the bus keeps of this trail"},
};
static const struct opts_follow follow_defaults = {.interval_ms = 1000};
static const struct cli_opt follow_opts[] = {
    {"to", 0, CLI_TEXT, "DIR", offsetof(struct opts_follow, to), 0, 0, "where the copies go; required"},
    {"chain", 0, CLI_TEXT, "ID", offsetof(struct opts_follow, chain), 0, 0, "this trail only (32 hex digits)"},
    {"key", 'k', CLI_TEXT, "HEX", offsetof(struct opts_follow, key), 0, 0,
     "a public key of the trail that you trust (default: the one\nthat is met first)"},
    {"once", 0, CLI_FLAG, NULL, offsetof(struct opts_follow, once), 0, 0,
     "end when the copies are as far as the trails"},
    {"interval", 0, CLI_DURATION, "TIME", offsetof(struct opts_follow, interval_ms), 10, 3600000,
     "time between looks (default: 1s)"},
    {"witness", 0, CLI_TEXT, "FILE", offsetof(struct opts_follow, witness), 0, 0,
     "cosign each checkpoint that is kept, with this Ed25519 key\n(64 bytes, hexadecimal, mode 0600; made when it is "
     "missing)"},
    {"name", 0, CLI_TEXT, "NAME", offsetof(struct opts_follow, name), 0, 0,
     "the witness's name (default: redoubt-witness)"},
};
static const struct cli_opt rotate_opts[] = {
    {"by", 0, CLI_TEXT, "NAME", offsetof(struct opts_rotate, by), 0, 0, "who changes it (default: $USER)"},
    {"reason", 0, CLI_TEXT, "TEXT", offsetof(struct opts_rotate, reason), 0, 0, "why; required"},
    {"chain", 0, CLI_TEXT, "ID", offsetof(struct opts_rotate, chain), 0, 0,
     "this trail only (default: every replica's)"},
};

#define QUERY_TEXT(name, letter, arg, field, help)                                                                   \
    {                                                                                                                \
        name, letter, CLI_TEXT, arg, offsetof(struct opts_audit_query, field), 0, 0, help                            \
    }
#define QUERY_WHEN_AND_WHOM                                                                                          \
    QUERY_TEXT("actor", 0, "GLOB", actor, "who"), QUERY_TEXT("subject", 0, "GLOB", subject, "on what"),              \
        QUERY_TEXT("since", 0, "TIME", since,                                                                        \
                   "from then on: 2026-01-31, 2026-01-31T09:05:01Z, or how long ago: 24h"),                          \
        QUERY_TEXT("until", 0, "TIME", until, "before then"),                                                        \
        QUERY_TEXT("config", 'c', "FILE", config, "settings file that says where the trails are")
#define QUERY                                                                                                        \
    QUERY_WHEN_AND_WHOM, QUERY_TEXT("action", 0, "GLOB", action, "what, as `agent.*`"),                              \
        QUERY_TEXT("service", 0, "GLOB", service, "who wrote the record"),                                           \
        QUERY_TEXT("class", 0, "NAME", audit_class, "strict, continuity or gap"),                                    \
        QUERY_TEXT("outcome", 0, "NAME", outcome, "intended, done, failed or refused"),                              \
        QUERY_TEXT("text", 0, "TEXT", text, "somewhere in the detail or a field"),                                   \
        QUERY_TEXT("field", 0, "KEY=GLOB", field, "a field of the record"),                                          \
        QUERY_TEXT("id", 0, "ID", id, "this record")
static const struct cli_opt search_opts[] = {
    QUERY,
    {"limit", 'n', CLI_INT, "N", offsetof(struct opts_audit_query, limit), 1, INT64_MAX, "the newest N only"},
    {"json", 'j', CLI_FLAG, NULL, offsetof(struct opts_audit_query, json), 0, 0,
     "a JSON object per line: first each trail, then each record"},
};
static const struct opts_audit_query export_defaults = {.format = "jsonl"}, who_defaults = {.format = "text"};
static const struct cli_opt export_opts[] = {
    QUERY,
    {"limit", 'n', CLI_INT, "N", offsetof(struct opts_audit_query, limit), 1, INT64_MAX, "the newest N only"},
    QUERY_TEXT("format", 'f', "NAME", format, "jsonl (default), json or csv"),
};
static const struct cli_opt who_opts[] = {
    QUERY_WHEN_AND_WHOM,
    QUERY_TEXT("format", 'f', "NAME", format, "text (default), json or csv"),
};
static const struct cli_opt proof_opts[] = {
    {"check", 0, CLI_TEXT, "FILE", offsetof(struct opts_proof, check), 0, 0,
     "check this proof (`-`: from stdin); needs neither trail nor service"},
    {"key", 'k', CLI_TEXT, "HEX", offsetof(struct opts_proof, key), 0, 0,
     "with --check: a public key of the trail that you trust"},
    {"config", 'c', CLI_TEXT, "FILE", offsetof(struct opts_proof, config), 0, 0,
     "settings file that says where the trails are"},
};

#endif
