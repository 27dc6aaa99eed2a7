/* cmd_audit_follow.c - redoubt audit follow: copies of trails on this host, checked as they come; and redoubt audit rotate. */
#include "audit/audit_verify.h"
#include "cli/audit_follow.h"
#include "cli/cmd.h"
#include "common/clock.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIND_MS 5000
#define AWAY_MS 30000 /* a replica that did not answer is asked again after this, or when its trail has grown */

struct town {
    struct cli *c;
    struct cli_link link;
    const struct opts_follow *o;
    struct follow_witness witness;
    bool has_trusted;
    unsigned char trusted[AUDIT_PUBLIC_BYTES];
    struct follow *first;
    bool synced, changed;
};

/* ---- the witness's key ---- */

static bool name_ok(const char *name)
{
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == '+' || (unsigned char)*p >= 127)
            return false;
    return *name && strlen(name) < 64;
}

static int make_key(const char *path, unsigned char *secret, struct err *e)
{
    unsigned char public_key[AUDIT_PUBLIC_BYTES];
    char hex[2 * AUDIT_SECRET_BYTES + 1];
    crypto_sign_keypair(public_key, secret);
    sodium_bin2hex(hex, sizeof hex, secret, AUDIT_SECRET_BYTES);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = fd < 0 || write(fd, hex, sizeof hex - 1) != (ssize_t)(sizeof hex - 1) || fsync(fd)
                 ? err_set(e, "cannot write %s: %s", path, strerror(errno))
                 : 0;
    if (fd >= 0)
        close(fd);
    sodium_memzero(hex, sizeof hex);
    return rc;
}

static int read_key(const char *path, unsigned char *secret, struct err *e)
{
    struct stat st;
    char text[256];
    size_t bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return make_key(path, secret, e);
    ssize_t n = fd < 0 || fstat(fd, &st) ? -1 : read(fd, text, sizeof text);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_set(e, "cannot read %s: %s", path, strerror(error));
    if (st.st_mode & 077)
        return err_set(e, "%s may be read by others: chmod 600", path);
    int bad = sodium_hex2bin(secret, AUDIT_SECRET_BYTES, text, (size_t)n, "\r\n ", &bytes, NULL) ||
              bytes != AUDIT_SECRET_BYTES;
    sodium_memzero(text, sizeof text);
    return bad ? err_set(e, "%s is not an Ed25519 key of %d bytes in hexadecimal", path, AUDIT_SECRET_BYTES) : 0;
}

static int open_witness(struct town *t)
{
    struct err e = {""};
    const char *name = t->o->name ? t->o->name : "redoubt-witness";
    if (!t->o->witness)
        return CLI_OK;
    if (!name_ok(name))
        return cli_fail(t->c, CLI_USAGE, "--name: found `%s`; allowed: up to 63 letters without blanks and `+`",
                        name);
    if (read_key(t->o->witness, t->witness.secret, &e))
        return cli_fail(t->c, CLI_USAGE, "--witness: %s", e.text);
    snprintf(t->witness.name, sizeof t->witness.name, "%s", name);
    struct audit_vkey k = {.alg = AUDIT_NOTE_COSIGNATURE};
    char text[AUDIT_VKEY_TEXT_MAX];
    snprintf(k.name, sizeof k.name, "%s", name);
    crypto_sign_ed25519_sk_to_pk(k.key, t->witness.secret);
    audit_vkey_text(&k, text);
    printf("witness %s\n", text); /* for audit.witnesses, and for `redoubt audit verify` */
    return CLI_OK;
}

/* ---- which trails there are ---- */

static void on_checkpoint(void *ctx, const struct bus_msg *m)
{
    struct town *t = ctx;
    PB(AuditCheckpoint) *c = wire_unpack(PB_DESC(audit_checkpoint), m->data, m->len, NULL);
    if (!c || strspn(c->chain, "0123456789abcdef") != 2 * AUDIT_CHAIN_BYTES ||
        (t->o->chain && strcmp(t->o->chain, c->chain) != 0)) {
        wire_free(c);
        return;
    }
    struct follow *f = t->first;
    while (f && strcmp(f->chain, c->chain) != 0)
        f = f->next;
    if (!f) {
        f = calloc(1, sizeof *f);
        if (f) {
            f->link = &t->link;
            f->witness = &t->witness;
            f->trusted = t->has_trusted ? t->trusted : NULL;
            f->copy.fd = f->copy.dir_fd = -1;
            snprintf(f->chain, sizeof f->chain, "%s", c->chain);
            f->next = t->first;
            t->first = f;
        }
    }
    if (f && c->size > f->wanted) {
        f->wanted = c->size;
        f->next_try_ms = 0;
    }
    t->changed = true;
    wire_free(c);
}

static void on_synced(void *ctx)
{
    ((struct town *)ctx)->synced = true;
}

/* ---- following ---- */

static void say(struct follow *f, enum follow_result rc, const char *text)
{
    switch (rc) {
    case FOLLOW_FRESH:
        break;
    case FOLLOW_MORE:
        printf("%s: %" PRIu64 " records, checked and signed for%s\n", f->chain, f->size,
               f->cosigned ? ", cosigned" : "");
        f->trouble[0] = 0;
        break;
    case FOLLOW_AWAY: /* once, until it is another */
        if (strcmp(f->trouble, text) != 0)
            cli_fail(f->link->c, 0, "%s: %s", f->chain, text);
        snprintf(f->trouble, sizeof f->trouble, "%s", text);
        break;
    case FOLLOW_REFUSED:
        cli_fail(f->link->c, 0, "%s: REFUSED: %s; what was kept stays in %s, and the note that was refused beside it",
                 f->chain, text, f->dir);
        break;
    }
    fflush(stdout);
}

static enum follow_result go_on(struct town *t, struct follow *f)
{
    struct err e = {""};
    enum follow_result rc = FOLLOW_FRESH;
    if (f->broken)
        follow_close(f);
    if (!f->open) {
        f->broken = false;
        rc = follow_open(f, t->o->to, &e);
        if (rc == FOLLOW_AWAY)
            follow_close(f);
    }
    if (rc == FOLLOW_FRESH)
        rc = follow_pull(f, &e);
    if (rc == FOLLOW_REFUSED)
        f->refused = true;
    say(f, rc, e.text);
    return rc;
}

/* Trails whose writer is gone for good stay on the bus: they keep nobody from copying the others. */
static int follow_all(struct town *t)
{
    int code = CLI_OK;
    do {
        size_t n = 0, away = 0;
        t->changed = false;
        for (struct follow *f = t->first; f && !t->link.interrupted; f = f->next) {
            n++;
            if (clock_mono_ms() < f->next_try_ms)
                continue;
            enum follow_result rc = f->refused ? FOLLOW_REFUSED : go_on(t, f);
            if (rc == FOLLOW_AWAY)
                f->next_try_ms = clock_mono_ms() + AWAY_MS;
            /* With --once all that the bus knows of is wanted. */
            away += rc != FOLLOW_REFUSED && f->size < f->wanted;
            if (rc == FOLLOW_REFUSED)
                code = CLI_FAILED;
        }
        if (t->o->once && n == 0)
            return cli_fail(t->c, CLI_FAILED, "no trail%s%s is known on the bus", t->o->chain ? " " : "",
                            t->o->chain ? t->o->chain : "");
        if (t->o->once)
            return code != CLI_OK ? code : away ? CLI_UNREACHABLE : CLI_OK;
        if (code != CLI_OK && t->o->chain)
            return code; /* the only one */
        loop_run_until(&t->link.loop, &t->changed, t->o->interval_ms);
    } while (!t->link.interrupted && code == CLI_OK);
    return code;
}

int cmd_audit_follow(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    struct town t = {.c = c, .o = opts};
    struct stat st;
    size_t n = 0;
    const char *end = "";
    if (sodium_init() < 0)
        return cli_fail(c, CLI_FAILED, "no source of randomness");
    if (!t.o->to || stat(t.o->to, &st) || !S_ISDIR(st.st_mode))
        return cli_fail(c, CLI_USAGE, "--to DIR is needed: a directory that is there");
    if (t.o->key && (sodium_hex2bin(t.trusted, sizeof t.trusted, t.o->key, strlen(t.o->key), NULL, &n, &end) ||
                     n != sizeof t.trusted || *end))
        return cli_fail(c, CLI_USAGE, "--key: found `%s`; allowed: a public key as %d hex digits", t.o->key,
                        2 * AUDIT_PUBLIC_BYTES);
    t.has_trusted = t.o->key != NULL;
    int code = open_witness(&t);
    if (code != CLI_OK)
        return code;
    code = cli_link_open(&t.link, c);
    struct bus_watch *w =
        code == CLI_OK ? bus_watch(t.link.bus, SUBJECT_CHECKPOINT ">", 0, on_checkpoint, on_synced, &t) : NULL;
    if (code == CLI_OK && (!w || !loop_run_until(&t.link.loop, &t.synced, FIND_MS)))
        code = cli_fail(c, CLI_UNREACHABLE, "stream " STREAM_STATE " does not say which trails there are");
    if (code == CLI_OK)
        code = follow_all(&t);
    bus_watch_close(w);
    for (struct follow *f; (f = t.first);) {
        t.first = f->next;
        follow_close(f);
        free(f);
    }
    sodium_memzero(&t.witness, sizeof t.witness);
    cli_link_close(&t.link);
    return code;
}

/* ---- redoubt audit rotate ---- */

struct answers {
    struct cli *c;
    size_t ok, refused;
};

static void on_answer(void *ctx, const struct bus_msg *m)
{
    struct answers *a = ctx;
    char text[1100];
    PB(CommandReply) *r = wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL);
    if (!r)
        return;
    term_clean(r->message, 0, text, sizeof text);
    bool ok = r->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
    a->ok += ok;
    a->refused += !ok;
    if (ok)
        printf("%s\n", text);
    else
        cli_fail(a->c, 0, "refused: %s", text);
    wire_free(r);
}

int cmd_audit_rotate(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const struct opts_rotate *o = opts;
    const char *user = getenv("USER");
    PB(AuditCommand) q = REDOUBT__V1__AUDIT_COMMAND__INIT;
    q.by = (char *)(o->by ? o->by : user && *user ? user : "operator");
    q.reason = (char *)(o->reason ? o->reason : "");
    q.chain = (char *)(o->chain ? o->chain : "");
    if (!*q.reason)
        return cli_fail(c, CLI_USAGE, "--reason TEXT is needed: it lands in the audit trail");
    struct err e = {""};
    struct answers a = {.c = c};
    struct cli_link link;
    size_t len;
    void *data = wire_pack(&q, &len, &e);
    if (!data)
        return cli_fail(c, CLI_USAGE, "%s", e.text);
    int code = cli_link_open(&link, c);
    if (code == CLI_OK) {
        cli_gather_of(&link, SUBJECT_CMD "audit.rotate", wire_type(&q), data, len, 1000, c->answer_ms, on_answer, &a);
        if (a.ok + a.refused == 0)
            code = cli_fail(c, CLI_UNREACHABLE, "no replica of redoubt-audit%s%s answers",
                            o->chain ? " with trail " : "", o->chain ? o->chain : "");
        else if (a.refused)
            code = CLI_REFUSED;
    }
    free(data);
    cli_link_close(&link);
    return code;
}
