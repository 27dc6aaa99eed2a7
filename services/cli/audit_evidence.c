/* audit_evidence.c - the trails that a command looks into, each checked as it is read, and the records of them that fit. */
#include "cli/audit_evidence.h"
#include "audit/audit_segments.h"
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "common/clock.h"
#include "common/replica.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRAILS_MAX 1024
#define SET_ASIDE  "set-aside-"

/* ---- which trails ---- */

static struct evidence_trail *add(struct evidence *ev)
{
    struct evidence_trail *more =
        ev->n_trails < TRAILS_MAX ? realloc(ev->trails, (ev->n_trails + 1) * sizeof *more) : NULL;
    if (!more)
        return NULL;
    ev->trails = more;
    struct evidence_trail *t = &more[ev->n_trails++];
    *t = (struct evidence_trail){.fd = -1, .n_dirs = 1};
    return t;
}

static int add_given(struct evidence *ev, const char *arg)
{
    struct evidence_trail *t = add(ev);
    if (!t)
        return cli_fail(ev->c, CLI_FAILED, "out of memory");
    struct stat st;
    const char *colon = stat(arg, &st) == 0 ? NULL : strrchr(arg, ':');
    snprintf(t->dirs[0], sizeof t->dirs[0], "%.*s", colon ? (int)(colon - arg) : 1023, arg);
    if (colon) {
        snprintf(t->dirs[1], sizeof t->dirs[1], "%.1023s", colon + 1);
        t->n_dirs = 2;
    }
    return CLI_OK;
}

/* The chain that the directory's first segment belongs to. */
static bool chain_of(const char *dir, unsigned char ret[static AUDIT_CHAIN_BYTES])
{
    struct audit_segments s = {0};
    struct err e;
    char path[1200], name[AUDIT_NAME_MAX];
    unsigned char head[AUDIT_HEADER_BYTES];
    struct audit_header h;
    bool found = false;
    if (audit_segments_list(&dir, 1, &s, &e) == 0 && s.n) {
        audit_segment_name(s.list[0].first, name);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        FILE *f = fopen(path, "rb");
        found =
            f && fread(head, 1, sizeof head, f) == sizeof head && audit_header_parse(head, sizeof head, &h, &e) == 0;
        if (f)
            fclose(f);
    }
    if (found)
        memcpy(ret, h.chain, AUDIT_CHAIN_BYTES);
    audit_segments_free(&s);
    return found;
}

/* Where a trail went on: the directory of its chain below the second one. */
static void find_second(struct evidence_trail *t, const char *second)
{
    unsigned char chain[AUDIT_CHAIN_BYTES], other[AUDIT_CHAIN_BYTES];
    DIR *d = *second && chain_of(t->dirs[0], chain) ? opendir(second) : NULL;
    for (struct dirent *f; d && t->n_dirs == 1 && (f = readdir(d));) {
        char path[1024];
        snprintf(path, sizeof path, "%.700s/%.255s", second, f->d_name);
        if (*f->d_name != '.' && chain_of(path, other) && memcmp(chain, other, sizeof chain) == 0) {
            memcpy(t->dirs[1], path, sizeof path);
            t->n_dirs = 2;
        }
    }
    if (d)
        closedir(d);
}

static bool holds_trail(const char *dir)
{
    char path[1200];
    struct audit_segments s = {0};
    struct err e;
    bool found = audit_segments_list(&dir, 1, &s, &e) == 0 && s.n > 0;
    audit_segments_free(&s);
    snprintf(path, sizeof path, "%s/%s", dir, AUDIT_CHECKPOINT_FILE);
    return found || access(path, F_OK) == 0;
}

static int add_found(struct evidence *ev, const char *dir, const char *second)
{
    if (!holds_trail(dir))
        return CLI_OK;
    struct evidence_trail *t = add(ev);
    if (!t)
        return cli_fail(ev->c, CLI_FAILED, "out of memory");
    snprintf(t->dirs[0], sizeof t->dirs[0], "%.1023s", dir);
    find_second(t, second);
    return CLI_OK;
}

/* A replica's trail, and those that were set aside there: what they hold is evidence, too. */
static int add_replica(struct evidence *ev, const char *dir, const char *second)
{
    int code = add_found(ev, dir, second);
    DIR *d = opendir(dir);
    for (struct dirent *f; code == CLI_OK && d && (f = readdir(d));) {
        char path[1024];
        snprintf(path, sizeof path, "%.700s/%.255s", dir, f->d_name);
        if (strncmp(f->d_name, SET_ASIDE, strlen(SET_ASIDE)) == 0)
            code = add_found(ev, path, "");
    }
    if (d)
        closedir(d);
    return code;
}

static int find_trails(struct evidence *ev, const char *config)
{
    struct settings *s = cli_settings_of(ev->c, config ? config : cli_config_path(ev->c));
    if (!s)
        return CLI_USAGE;
    int code = CLI_OK;
    char dir[1024];
    for (int i = 0; code == CLI_OK && i < REPLICA_MAX; i++) {
        snprintf(dir, sizeof dir, "%.900s/audit/%d", s->data_dir, i);
        if (access(dir, F_OK) == 0 && access(dir, R_OK | X_OK))
            code =
                cli_fail(ev->c, CLI_USAGE, "cannot read %s: %s; run it as the service's user", dir, strerror(errno));
        else
            code = add_replica(ev, dir, s->audit.second_dir);
    }
    if (code == CLI_OK && ev->n_trails == 0)
        code = cli_fail(ev->c, CLI_FAILED, "no trail is below %s/audit; name its directory", s->data_dir);
    settings_free(s);
    return code;
}

int evidence_open(struct evidence *ev, struct cli *c, const char *config, int argc, char **argv)
{
    *ev = (struct evidence){.c = c};
    if (sodium_init() < 0)
        return cli_fail(c, CLI_FAILED, "no source of randomness");
    if (argc == 0)
        return find_trails(ev, config);
    int code = CLI_OK;
    for (int i = 0; code == CLI_OK && i < argc; i++)
        code = add_given(ev, argv[i]);
    return code;
}

void evidence_close(struct evidence *ev)
{
    for (size_t i = 0; i < ev->n_trails; i++)
        if (ev->trails[i].fd >= 0)
            close(ev->trails[i].fd);
    free(ev->trails);
    free(ev->hits);
    *ev = (struct evidence){0};
}

/* ---- looking ---- */

struct look {
    struct evidence *ev;
    size_t trail, room;
    evidence_wanted wanted;
    void *ctx;
    bool no_memory;
};

static void check_of(const unsigned char *stored, uint32_t len, const unsigned char *hash, unsigned char *out)
{
    crypto_generichash_state st;
    crypto_generichash_init(&st, NULL, 0, EVIDENCE_CHECK_BYTES);
    crypto_generichash_update(&st, stored, len);
    crypto_generichash_update(&st, hash, AUDIT_HASH_BYTES);
    crypto_generichash_final(&st, out, EVIDENCE_CHECK_BYTES);
}

static struct evidence_hit *new_hit(struct look *l)
{
    struct evidence *ev = l->ev;
    if (ev->n_hits == l->room) {
        size_t room = l->room ? 2 * l->room : 1024;
        struct evidence_hit *more = realloc(ev->hits, room * sizeof *more);
        if (!more) {
            l->no_memory = true;
            return NULL;
        }
        ev->hits = more;
        l->room = room;
    }
    return &ev->hits[ev->n_hits++];
}

static void on_record(void *ctx, const struct audit_record *rec, const char *file, uint64_t offset)
{
    struct look *l = ctx;
    struct evidence_trail *t = &l->ev->trails[l->trail];
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    if (!r) {
        t->unread_seq = t->unread++ ? t->unread_seq : rec->seq;
        return;
    }
    struct evidence_hit *h = l->wanted(l->ctx, r) ? new_hit(l) : NULL;
    if (h) {
        *h = (struct evidence_hit){.at_unix_ms = r->at_unix_ms,
                                   .at_mono_ns = r->at_mono_ns,
                                   .seq = rec->seq,
                                   .offset = offset,
                                   .trail = (uint16_t)l->trail,
                                   .ended = r->outcome != REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED};
        audit_segment_parse(file, &h->segment);
        check_of(rec->stored, rec->len, rec->hash, h->check);
        crypto_generichash((unsigned char *)&h->bytes, sizeof h->bytes, rec->stored, rec->len, NULL, 0);
    }
    wire_free(r);
}

/* Retention may delete what is being read: then the trail is looked at once more. */
static bool was_pruned(const struct evidence_trail *t)
{
    struct audit_checkpoint now;
    return audit_read_tree(t->dirs[0], AUDIT_PRUNED_FILE, &now) && now.size > t->report.pruned;
}

static int look_into(struct look *l)
{
    struct evidence_trail *t = &l->ev->trails[l->trail];
    struct err e = {""};
    size_t before = l->ev->n_hits;
    int found;
    for (int tries = 3;; tries--) {
        struct audit_verify_opts o = {.n_dirs = t->n_dirs, .visit = on_record, .ctx = l};
        for (size_t i = 0; i < t->n_dirs; i++)
            o.dirs[i] = t->dirs[i];
        l->ev->n_hits = before;
        t->unread = 0;
        found = audit_verify_trail(&o, &t->report, &e);
        if (found <= 0 || tries == 1 || !was_pruned(t))
            break;
    }
    sodium_bin2hex(t->chain, sizeof t->chain, t->report.chain, AUDIT_CHAIN_BYTES);
    if (found < 0)
        return cli_fail(l->ev->c, CLI_USAGE, "%s", e.text);
    if (l->no_memory)
        return cli_fail(l->ev->c, CLI_USAGE, "out of memory: ask for less at once (--since, --until)");
    return evidence_whole(t) ? CLI_OK : CLI_FAILED;
}

static int by_time(const void *a, const void *b)
{
    const struct evidence_hit *x = a, *y = b;
#define ORDER(field)                                                                                                 \
    if (x->field != y->field)                                                                                        \
    return x->field < y->field ? -1 : 1
    ORDER(at_unix_ms);
    ORDER(ended);
    ORDER(at_mono_ns);
    ORDER(trail);
    ORDER(seq);
#undef ORDER
    return 0;
}

static bool are_twins(const struct evidence *ev, const struct evidence_hit *x, const struct evidence_hit *y)
{
    return x->bytes == y->bytes && x->at_mono_ns == y->at_mono_ns &&
           strcmp(ev->trails[x->trail].chain, ev->trails[y->trail].chain) != 0;
}

/* A record of which one replica's acknowledgement was lost may stand in another's trail as well, under the same id: what happened once is shown once. A copy of
 * the same trail is no other trail. */
static void drop_twins(struct evidence *ev)
{
    size_t n = 0;
    for (size_t i = 0; i < ev->n_hits; i++) {
        const struct evidence_hit *h = &ev->hits[i];
        bool twin = false;
        for (size_t k = n; k > 0 && !twin && ev->hits[k - 1].at_unix_ms == h->at_unix_ms &&
                           ev->hits[k - 1].ended == h->ended && ev->hits[k - 1].at_mono_ns == h->at_mono_ns;
             k--)
            twin = are_twins(ev, &ev->hits[k - 1], h);
        ev->twins += twin;
        if (!twin)
            ev->hits[n++] = *h;
    }
    ev->n_hits = n;
}

int evidence_look(struct evidence *ev, evidence_wanted wanted, void *ctx)
{
    struct look l = {.ev = ev, .wanted = wanted, .ctx = ctx};
    int code = CLI_OK;
    for (; l.trail < ev->n_trails; l.trail++) {
        int found = look_into(&l);
        if (found == CLI_USAGE)
            return found;
        code = found == CLI_OK ? code : found;
    }
    if (ev->n_hits)
        qsort(ev->hits, ev->n_hits, sizeof *ev->hits, by_time);
    drop_twins(ev);
    return code;
}

bool evidence_whole(const struct evidence_trail *t)
{
    return t->report.n_problems == 0 && t->unread == 0;
}

bool evidence_covered(const struct evidence_trail *t, uint64_t seq)
{
    return t->report.checkpointed && seq <= t->report.checkpoint.size;
}

/* ---- reading again ---- */

static int open_segment(struct evidence_trail *t, uint64_t segment, const char *name, struct err *e)
{
    char path[1200];
    if (t->fd >= 0 && t->fd_segment == segment)
        return 0;
    if (t->fd >= 0)
        close(t->fd);
    t->fd = -1;
    for (size_t i = 0; t->fd < 0 && i < t->n_dirs; i++) {
        snprintf(path, sizeof path, "%s/%s", t->dirs[i], name);
        t->fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    t->fd_segment = segment;
    return t->fd < 0 ? err_set(e, "cannot read %s: %s", path, strerror(errno)) : 0;
}

static uint64_t little_endian(const unsigned char *p, int bytes)
{
    uint64_t n = 0;
    for (int i = bytes; i-- > 0;)
        n = n << 8 | p[i];
    return n;
}

int evidence_read(struct evidence *ev, const struct evidence_hit *h, struct evidence_record *ret, struct err *e)
{
    struct evidence_trail *t = &ev->trails[h->trail];
    unsigned char head[AUDIT_RECORD_HEAD], check[EVIDENCE_CHECK_BYTES];
    *ret = (struct evidence_record){0};
    audit_segment_name(h->segment, ret->file);
    if (open_segment(t, h->segment, ret->file, e))
        return -1;
    if (pread(t->fd, head, sizeof head, (off_t)h->offset) != (ssize_t)sizeof head)
        return err_set(e, "%s/%s changed while it was read", t->dirs[0], ret->file);
    uint32_t len = (uint32_t)little_endian(head, 4);
    ssize_t size = (ssize_t)len + AUDIT_HASH_BYTES;
    unsigned char *data = len <= AUDIT_STORED_MAX ? malloc((size_t)size) : NULL;
    bool same = data && pread(t->fd, data, (size_t)size, (off_t)h->offset + AUDIT_RECORD_HEAD) == size &&
                little_endian(head + 4, 8) == h->seq;
    if (same) {
        check_of(data, len, data + len, check);
        same = sodium_memcmp(check, h->check, sizeof check) == 0;
    }
    if (same) {
        ret->r = wire_unpack(PB_DESC(audit_record), data, len, e);
        sodium_bin2hex(ret->hash, sizeof ret->hash, data + len, AUDIT_HASH_BYTES);
    }
    free(data);
    return ret->r ? 0 : err_set(e, "%s/%s changed while it was read", t->dirs[0], ret->file);
}
