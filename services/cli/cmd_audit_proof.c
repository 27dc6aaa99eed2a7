/* cmd_audit_proof.c - redoubt audit proof: one record's proof, made from a trail; or checked, without it. */
#include "audit/audit_proof.h"
#include "cli/audit_evidence.h"
#include "cli/cmd.h"
#include "common/clock.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define PROOF_MAX (1 << 20)

/* ---- checking ---- */

static char *read_whole(const struct cli *c, const char *path, size_t *ret_len)
{
    bool from_stdin = strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "rb");
    char *text = f ? malloc(PROOF_MAX + 1) : NULL;
    size_t n = text ? fread(text, 1, PROOF_MAX + 1, f) : 0;
    bool bad = !text || ferror(f) || n > PROOF_MAX;
    if (bad)
        cli_fail(c, 0, "cannot read %s: %s", path, f && n > PROOF_MAX ? "too large for a proof" : strerror(errno));
    if (f && !from_stdin)
        fclose(f);
    if (!bad) {
        *ret_len = n;
        return text;
    }
    free(text);
    return NULL;
}

static void show_proof(const struct cli *c, const struct audit_proof *p, const char *json)
{
    char chain[2 * AUDIT_CHAIN_BYTES + 1], key[2 * AUDIT_PUBLIC_BYTES + 1], at[CLOCK_TEXT_MAX];
    sodium_bin2hex(chain, sizeof chain, p->checkpoint.chain, AUDIT_CHAIN_BYTES);
    sodium_bin2hex(key, sizeof key, p->signer, AUDIT_PUBLIC_BYTES);
    term_print(&c->out, TERM_GREEN, "proven");
    printf(": record %" PRIu64 " is in chain %s, as signed at %s when it had %" PRIu64 " records, by key %s%s\n",
           p->seq, chain, clock_text(p->checkpoint.at_unix_ms, at), p->checkpoint.size, key,
           p->trusted ? ", which your key vouches for"
                      : ": compare it with one that you trust, or give that as --key");
    printf("%s\n", json);
}

static int check(struct cli *c, const struct opts_proof *o)
{
    unsigned char key[AUDIT_PUBLIC_BYTES];
    size_t n = 0, len;
    const char *end = "";
    struct err e = {""};
    struct audit_proof p;
    if (o->key &&
        (sodium_hex2bin(key, sizeof key, o->key, strlen(o->key), NULL, &n, &end) || n != sizeof key || *end))
        return cli_fail(c, CLI_USAGE, "--key: found `%s`; allowed: a public key as %d hex digits", o->key,
                        2 * AUDIT_PUBLIC_BYTES);
    char *text = read_whole(c, o->check, &len);
    if (!text)
        return CLI_USAGE;
    int bad = audit_proof_check(text, len, o->key ? key : NULL, &p, &e);
    free(text);
    if (bad)
        return cli_fail(c, CLI_FAILED, "NOT PROVEN: %s", e.text);
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), p.stored, p.stored_len, NULL);
    char *json = r ? wire_json(r) : NULL;
    show_proof(c, &p, json ? json : "its bytes cannot be read by this version");
    free(json);
    wire_free(r);
    free(p.stored);
    return CLI_OK;
}

/* ---- making ---- */

static bool is_record(void *ctx, const PB(AuditRecord) * r)
{
    return strcmp(ctx, r->id) == 0;
}

static bool is_number(const char *text, uint64_t *ret)
{
    char *end;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return isdigit((unsigned char)*text) && !*end && !errno;
}

/* Which trail and which record. By its number only if there is one trail. */
static int find(struct evidence *ev, const char *what, size_t *ret_trail, uint64_t *ret_seq)
{
    *ret_trail = 0;
    if (is_number(what, ret_seq))
        return ev->n_trails == 1
                   ? CLI_OK
                   : cli_fail(ev->c, CLI_USAGE,
                              "%zu trails have a record %s: name the directory of one, or the record's id",
                              ev->n_trails, what);
    int code = evidence_look(ev, is_record, (void *)(uintptr_t)what);
    if (code == CLI_USAGE)
        return code;
    if (ev->n_hits == 0)
        return cli_fail(ev->c, CLI_FAILED, "no record has the id %s", what);
    *ret_trail = ev->hits[0].trail;
    *ret_seq = ev->hits[0].seq;
    return CLI_OK;
}

static int make(struct evidence *ev, const char *what)
{
    size_t trail;
    uint64_t seq;
    struct err e = {""};
    int code = find(ev, what, &trail, &seq);
    if (code != CLI_OK)
        return code;
    const struct evidence_trail *t = &ev->trails[trail];
    const char *dirs[2] = {t->dirs[0], t->dirs[1]};
    char *text = NULL;
    for (int tries = 3; !text && tries > 0; tries--) /* a checkpoint may be signed between two looks */
        text = audit_proof_make(dirs, t->n_dirs, seq, &e);
    if (!text)
        return cli_fail(ev->c, CLI_FAILED, "%s: %s", t->dirs[0], e.text);
    puts(text);
    free(text);
    return fflush(stdout) || ferror(stdout) ? cli_fail(ev->c, CLI_FAILED, "cannot write the output") : CLI_OK;
}

int cmd_audit_proof(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_proof *o = opts;
    struct evidence ev;
    if (o->check && argc == 0)
        return check(c, o);
    if (o->check || argc == 0)
        return cli_fail(c, CLI_USAGE, "name a record (its id or its number), or a proof with --check FILE");
    if (o->key)
        return cli_fail(c, CLI_USAGE, "--key goes with --check");
    int code = evidence_open(&ev, c, o->config, argc - 1, argv + 1);
    if (code == CLI_OK)
        code = make(&ev, argv[0]);
    evidence_close(&ev);
    return code;
}
