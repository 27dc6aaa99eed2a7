/* cmd_audit.c - redoubt audit verify: is a trail whole. */
#include "audit/audit_verify.h"
#include "cli/cmd.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static void show(const struct term *t, const char *dir, const struct audit_report *r)
{
    char text[ERR_TEXT_MAX + 64];
    for (size_t i = 0; i < r->n_problems && i < AUDIT_PROBLEMS_MAX; i++) {
        const struct audit_problem *p = &r->problems[i];
        term_print(t, TERM_RED, "  ! ");
        printf("%s at byte %" PRIu64, p->file, p->offset);
        if (p->seq)
            printf(", record %" PRIu64, p->seq);
        printf(": %s\n", term_clean(p->what, 0, text, sizeof text));
    }
    if (r->n_problems > AUDIT_PROBLEMS_MAX)
        printf("  ... and %zu more\n", r->n_problems - AUDIT_PROBLEMS_MAX);
    printf("%s: ", dir);
    if (r->n_problems)
        term_print(t, TERM_RED, "BROKEN: %zu problem%s", r->n_problems, r->n_problems == 1 ? "" : "s");
    else
        term_print(t, TERM_GREEN, "whole");
    printf(", %" PRIu64 " records in %" PRIu64 " segment%s, %" PRIu64 " bytes", r->records, r->segments,
           r->segments == 1 ? "" : "s", r->bytes);
    if (r->checkpointed && r->checkpoint.size > 0)
        printf(", signed up to record %" PRIu64, r->checkpoint.size);
    else
        printf(", no signed checkpoint yet");
    if (r->torn_bytes)
        printf(", %" PRIu64 " bytes of a write that was cut short", r->torn_bytes);
    putchar('\n');
}

/* A public key as 64 hex digits. */
static int read_key(const char *text, unsigned char key[static AUDIT_PUBLIC_BYTES])
{
    size_t n = 0;
    const char *end = NULL;
    return sodium_hex2bin(key, AUDIT_PUBLIC_BYTES, text, strlen(text), NULL, &n, &end) == 0 &&
                   n == AUDIT_PUBLIC_BYTES && !*end
               ? 0
               : -1;
}

int cmd_audit_verify(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_verify *o = opts;
    unsigned char key[AUDIT_PUBLIC_BYTES];
    struct err e = {""};
    if (sodium_init() < 0)
        return cli_fail(c, CLI_FAILED, "no source of randomness");
    if (o->key && read_key(o->key, key))
        return cli_fail(c, CLI_USAGE, "--key: found `%s`; allowed: a public key as %d hex digits", o->key,
                        2 * AUDIT_PUBLIC_BYTES);
    struct audit_report *r = calloc(1, sizeof *r);
    if (!r)
        return cli_fail(c, CLI_FAILED, "out of memory");
    int found = audit_verify(argv[0], o->key ? key : NULL, r, &e);
    if (found < 0)
        cli_fail(c, 0, "%s", e.text);
    else
        show(&c->out, argv[0], r);
    free(r);
    return found == 0 ? CLI_OK : found < 0 ? CLI_USAGE : CLI_FAILED;
}
