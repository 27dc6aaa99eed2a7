/* cmd_audit.c - redoubt audit verify: is a trail whole. */
#include "audit/audit_verify.h"
#include "cli/audit_bus_anchor.h"
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct look {
    struct audit_verify_opts v;
    unsigned char key[AUDIT_PUBLIC_BYTES];
    struct audit_vkey witness;
    struct audit_vkey known[AUDIT_WITNESSES_MAX]; /* of the settings: shown, not asked for */
    bool asked;                                   /* one was asked for */
    char *anchor, *bus_note;
};

static void show_signed(const struct audit_report *r)
{
    if (!r->checkpointed || r->checkpoint.size == 0) {
        printf(", no signed checkpoint yet");
        return;
    }
    printf(", signed up to record %" PRIu64, r->checkpoint.size);
    if (r->keys.n > 1)
        printf(" (key changed %zu time%s)", r->keys.n - 1, r->keys.n == 2 ? "" : "s");
    if (r->trusted && r->trusted_since)
        printf(", your key since record %" PRIu64, r->trusted_since);
}

static void show_problems(const struct term *t, const struct audit_report *r)
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
}

static void show(const struct term *t, const struct look *l, const struct audit_report *r)
{
    bool unseen = l->asked && !r->cosigned[0];
    show_problems(t, r);
    if (unseen) {
        term_print(t, TERM_RED, "  ! ");
        printf("%s: the newest one is not signed by %s\n", AUDIT_CHECKPOINT_FILE, l->witness.name);
    }
    printf("%s: ", l->v.dirs[0]);
    if (r->n_problems)
        term_print(t, TERM_RED, "BROKEN: %zu problem%s", r->n_problems, r->n_problems == 1 ? "" : "s");
    else
        term_print(t, TERM_GREEN, "whole");
    printf(", %" PRIu64 " records in %" PRIu64 " segment%s, %" PRIu64 " bytes", r->records, r->segments,
           r->segments == 1 ? "" : "s", r->bytes);
    if (r->pruned)
        printf(", those up to %" PRIu64 " were deleted by retention", r->pruned);
    show_signed(r);
    for (size_t i = 0; i < l->v.n_witnesses; i++)
        if (r->cosigned[i] || !l->asked)
            printf(", %sseen by %s", r->cosigned[i] ? "" : "not ", l->v.witnesses[i].name);
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

static int read_anchor(const char *path, struct look *l, struct err *e)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return err_set(e, "--anchor: cannot read %s: %s", path, strerror(errno));
    l->anchor = calloc(1, AUDIT_NOTE_MAX + 2);
    size_t n = l->anchor ? fread(l->anchor, 1, AUDIT_NOTE_MAX + 1, f) : 0;
    fclose(f);
    struct audit_checkpoint c;
    struct err why = {"empty"};
    if (n == 0 || audit_checkpoint_parse(l->anchor, n, &c, &why))
        return err_set(e, "--anchor: %s is no checkpoint: %s", path, why.text);
    l->v.anchors[l->v.n_anchors++] = l->anchor;
    return 0;
}

static int prepare(const struct opts_verify *o, int argc, char **argv, struct look *l, struct err *e)
{
    if (sodium_init() < 0)
        return err_set(e, "no source of randomness");
    for (int i = 0; i < argc; i++)
        l->v.dirs[l->v.n_dirs++] = argv[i];
    if (o->key && read_key(o->key, l->key))
        return err_set(e, "--key: found `%s`; allowed: a public key as %d hex digits", o->key,
                       2 * AUDIT_PUBLIC_BYTES);
    l->v.public_key = o->key ? l->key : NULL;
    if (o->witness) {
        struct err why = {""};
        if (audit_vkey_parse(o->witness, &l->witness, &why))
            return err_set(e, "--witness: %s", why.text);
        l->v.witnesses = &l->witness;
        l->v.n_witnesses = 1;
        l->asked = true;
    }
    return o->anchor ? read_anchor(o->anchor, l, e) : 0;
}

/* With settings named by -c: which of their witnesses have signed the newest checkpoint. */
static int read_settings(struct cli *c, struct look *l)
{
    struct settings *s = !c->config_path || l->asked ? NULL : cli_settings(c);
    int code = c->config_path && !l->asked && !s ? CLI_USAGE : CLI_OK;
    for (size_t i = 0; s && code == CLI_OK && i < s->audit.witnesses.n && i < AUDIT_WITNESSES_MAX; i++) {
        struct err why = {""};
        if (audit_vkey_parse(*CONF_AT(s->audit.witnesses, char *, i), &l->known[i], &why))
            code = cli_fail(c, CLI_USAGE, "audit.witnesses[%zu]: %s", i, why.text);
        l->v.witnesses = l->known;
        l->v.n_witnesses = i + 1;
    }
    settings_free(s);
    return code;
}

static void free_look(struct look *l)
{
    if (l) {
        free(l->anchor);
        free(l->bus_note);
    }
    free(l);
}

int cmd_audit_verify(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_verify *o = opts;
    struct err e = {""};
    struct look *l = calloc(1, sizeof *l);
    struct audit_report *r = calloc(1, sizeof *r);
    int found = l && r ? prepare(opts, argc, argv, l, &e) : err_set(&e, "out of memory");
    int code = found == 0 ? read_settings(c, l) : CLI_OK;
    if (found == 0 && code == CLI_OK && o->bus &&
        (code = audit_bus_anchor(c, l->v.dirs, l->v.n_dirs, &l->bus_note)) == CLI_OK)
        l->v.anchors[l->v.n_anchors++] = l->bus_note;
    if (code != CLI_OK) {
        free_look(l);
        free(r);
        return code;
    }
    if (found == 0)
        found = audit_verify_trail(&l->v, r, &e);
    if (found < 0)
        cli_fail(c, 0, "%s", e.text);
    else
        show(&c->out, l, r);
    if (found == 0 && l->asked && !r->cosigned[0])
        found = 1;
    free_look(l);
    free(r);
    return found == 0 ? CLI_OK : found < 0 ? CLI_USAGE : CLI_FAILED;
}
