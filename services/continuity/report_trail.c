/* report_trail.c - finds the trails, checks each once from its first byte to its last, and keeps what belongs to the incident. */
#include "continuity/report_trail.h"
#include "audit/audit_proofs.h"
#include "audit/audit_segments.h"
#include <dirent.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TURNS_MAX     50000
#define SET_ASIDE     "set-aside-"
#define OUTCOME(NAME) ((int)REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_##NAME)

/* ---- which records ---- */

static int by_name(const void *key, const void *item)
{
    return strcmp(key, *(const char *const *)item);
}

static long agent_of(const struct report_scope *s, const char *name)
{
    const char *const *at =
        s->n_agents && *name ? bsearch(name, s->agents, s->n_agents, sizeof *s->agents, by_name) : NULL;
    return at ? at - s->agents : -1;
}

static bool below(const char *target, const char *name)
{
    size_t n = strlen(target);
    return n > 0 && strncmp(target, name, n) == 0 && (name[n] == 0 || name[n] == '.');
}

static bool names(const struct report_scope *s, const char *name)
{
    static const char prefix[] = "agent.";
    return strcmp(name, s->id) == 0 || agent_of(s, name) >= 0 || below(s->target, name) || below(s->cause, name) ||
           (strncmp(name, prefix, sizeof prefix - 1) == 0 && agent_of(s, name + sizeof prefix - 1) >= 0);
}

/* A dedup_key: parts by `/`, one of which names what it is about. */
static bool key_names(const struct report_scope *s, const char *key)
{
    char part[256];
    for (const char *at = key; *at;) {
        size_t n = strcspn(at, "/");
        if (n > 0 && n < sizeof part) {
            memcpy(part, at, n);
            part[n] = 0;
            if (names(s, part))
                return true;
        }
        at += n + (at[n] == '/');
    }
    return false;
}

bool report_wants_key(const struct report_scope *s, const char *dedup_key, int64_t at_ms)
{
    return at_ms >= s->from_ms && at_ms <= s->to_ms && key_names(s, dedup_key);
}

bool report_wants(const struct report_scope *s, const PB(AuditRecord) * r)
{
    if (r->at_unix_ms < s->from_ms || r->at_unix_ms > s->to_ms)
        return false;
    if (names(s, r->subject) || agent_of(s, r->actor) >= 0 || key_names(s, r->subject))
        return true;
    if (strcmp(r->action, "audit.gap") == 0) /* what is missing may belong to it */
        return true;
    for (size_t i = 0; i < r->n_fields; i++)
        if (strcmp(r->fields[i]->key, "dedup_key") == 0 || strcmp(r->fields[i]->key, "incident") == 0 ||
            strcmp(r->fields[i]->key, "agent") == 0 || strcmp(r->fields[i]->key, "cause") == 0 ||
            strcmp(r->fields[i]->key, "target") == 0)
            if (key_names(s, r->fields[i]->value))
                return true;
    return false;
}

/* ---- counting ---- */

static const char *field(const PB(AuditRecord) * r, const char *key)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (strcmp(r->fields[i]->key, key) == 0)
            return r->fields[i]->value;
    return "";
}

static void count_action(struct report_trail *t, const struct report_scope *s, const PB(AuditRecord) * r)
{
    static const struct {
        const char *action;
        int outcome; /* 0 = any */
        size_t at;
    } rows[] = {{"action.done", 0, offsetof(struct report_tally, executed)},
                {"action.permitted", 0, offsetof(struct report_tally, executed)},
                {"action.queued", OUTCOME(DONE), offsetof(struct report_tally, queued)},
                {"action.queued", OUTCOME(FAILED), offsetof(struct report_tally, refused)},
                {"action.replayed", 0, offsetof(struct report_tally, replayed)},
                {"action.refused", 0, offsetof(struct report_tally, refused)},
                {"action.rejected", 0, offsetof(struct report_tally, failed)},
                {"action.failed", 0, offsetof(struct report_tally, failed)},
                {"queue.dead", 0, offsetof(struct report_tally, dead)}};
    long agent = agent_of(s, r->subject);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].action, r->action) != 0 || (rows[i].outcome && rows[i].outcome != (int)r->outcome))
            continue;
        ++*(uint64_t *)((char *)&t->all + rows[i].at);
        if (agent >= 0 && t->of_agent)
            ++*(uint64_t *)((char *)&t->of_agent[agent] + rows[i].at);
    }
}

/* What an agent's posture means for those who count on it: availability.h's conditions. */
static unsigned condition_of(const char *posture)
{
    static const struct {
        const char *posture;
        unsigned condition;
    } rows[] = {{"FROZEN", 1}, {"DEGRADED", 2}, {"SECURITY_FALLBACK", 2 | 4}, {"BACKUP_LLM", 4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].posture, posture) == 0)
            return rows[i].condition;
    return 0;
}

static bool turn_of(const struct report_scope *s, const PB(AuditRecord) * r, struct report_turn *ret)
{
    static const char prefix[] = "agent.";
    bool health = strncmp(r->subject, prefix, sizeof prefix - 1) == 0;
    long agent = agent_of(s, r->subject + (health ? sizeof prefix - 1 : 0));
    if (agent < 0)
        return false;
    *ret = (struct report_turn){.agent = (uint32_t)agent, .at_ms = r->at_unix_ms};
    if (!health) {
        ret->condition = condition_of(field(r, "posture"));
        return strcmp(r->action, "directive.issued") == 0;
    }
    ret->source = REPORT_HEALTH;
    ret->condition = strcmp(r->action, "health.unhealthy") == 0 && strcmp(field(r, "failure"), "AGENT_DOWN") == 0;
    return strncmp(r->action, "health.", 7) == 0;
}

static void turn(struct report_trail *t, const struct report_scope *s, const PB(AuditRecord) * r)
{
    struct report_turn is;
    if (!turn_of(s, r, &is) || t->n_turns >= TURNS_MAX)
        return;
    if (t->n_turns == t->turns_room) {
        size_t room = t->turns_room ? 2 * t->turns_room : 64;
        struct report_turn *more = realloc(t->turns, room * sizeof *more);
        if (!more) {
            t->no_memory = true;
            return;
        }
        t->turns = more;
        t->turns_room = room;
    }
    t->turns[t->n_turns++] = is;
}

static void leave_out(struct report_trail *t, const char *action)
{
    t->left_out++;
    for (size_t i = 0; i < t->n_others; i++)
        if (strcmp(t->others[i].action, action) == 0) {
            t->others[i].n++;
            return;
        }
    if (t->n_others < REPORT_KINDS_MAX) {
        struct report_kind *k = &t->others[t->n_others++];
        snprintf(k->action, sizeof k->action, "%s", action);
        k->n = 1;
    } else
        t->others[REPORT_KINDS_MAX - 1].n++;
}

bool report_trail_take(struct report_trail *t, const struct report_scope *s, PB(AuditRecord) * r, size_t bytes,
                       uint16_t chain, uint64_t seq)
{
    bool action = strncmp(r->action, "action.", 7) == 0;
    if (!t->of_agent && s->n_agents && !(t->of_agent = calloc(s->n_agents, sizeof *t->of_agent)))
        t->no_memory = true;
    count_action(t, s, r);
    turn(t, s, r);
    /* The tale of the incident is not pushed out by thousands of single actions. */
    bool room =
        t->n < REPORT_LINES_MAX && t->bytes + bytes <= REPORT_BYTES_MAX &&
        (action ? t->n_actions < REPORT_ACTIONS_MAX : t->n - t->n_actions < REPORT_LINES_MAX - REPORT_ACTIONS_MAX);
    if (room && t->n == t->room) {
        size_t more_room = t->room ? 2 * t->room : 64;
        struct report_line *more = realloc(t->lines, more_room * sizeof *more);
        if (more) {
            t->lines = more;
            t->room = more_room;
        } else {
            t->no_memory = true;
            room = false;
        }
    }
    if (!room) {
        leave_out(t, r->action);
        return false;
    }
    t->lines[t->n++] = (struct report_line){.r = r, .trail = chain, .seq = seq};
    t->n_actions += action;
    t->bytes += bytes;
    return true;
}

static int by_time(const void *a, const void *b)
{
    const struct report_line *x = a, *y = b;
#define ORDER(l, r)                                                                                                  \
    if ((l) != (r))                                                                                                  \
    return (l) < (r) ? -1 : 1
    ORDER(x->r->at_unix_ms, y->r->at_unix_ms);
    /* Of two of the same millisecond, what is meant comes before what was done. */
    ORDER(x->r->outcome != REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED,
          y->r->outcome != REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED);
    ORDER(x->r->at_mono_ns, y->r->at_mono_ns);
    ORDER(x->trail, y->trail);
    ORDER(x->seq, y->seq);
    return 0;
}

static int turn_by_time(const void *a, const void *b)
{
    const struct report_turn *x = a, *y = b;
    ORDER(x->agent, y->agent);
    ORDER(x->at_ms, y->at_ms);
#undef ORDER
    return 0;
}

void report_trail_sort(struct report_trail *t)
{
    if (t->n)
        qsort(t->lines, t->n, sizeof *t->lines, by_time);
    if (t->n_turns)
        qsort(t->turns, t->n_turns, sizeof *t->turns, turn_by_time);
    t->unproven = false;
    for (size_t i = 0; i < t->n; i++)
        t->unproven = t->unproven || !t->lines[i].proof;
}

void report_trail_done(struct report_trail *t)
{
    for (size_t i = 0; i < t->n; i++) {
        wire_free(t->lines[i].r);
        free(t->lines[i].proof);
    }
    free(t->lines);
    free(t->chains);
    free(t->turns);
    free(t->of_agent);
    *t = (struct report_trail){0};
}

/* ---- reading a trail ---- */

struct reading {
    struct report_trail *t;
    const struct report_scope *s;
    uint16_t chain;
    size_t first; /* of the lines of this trail */
};

static bool wanted(void *ctx, const struct audit_record *rec)
{
    struct reading *x = ctx;
    PB(AuditRecord) *r = wire_unpack(PB_DESC(audit_record), rec->stored, rec->len, NULL);
    if (!r) {
        x->t->unreadable++;
        return false;
    }
    if (report_wants(x->s, r) && report_trail_take(x->t, x->s, r, rec->len, x->chain, rec->seq))
        return true;
    wire_free(r);
    return false;
}

static void on_proof(void *ctx, uint64_t seq, const unsigned char leaf[static AUDIT_ROOT_BYTES], const char *json)
{
    struct reading *x = ctx;
    struct report_trail *t = x->t;
    while (x->first < t->n && t->lines[x->first].seq < seq)
        x->first++; /* both go by sequence */
    if (x->first == t->n || t->lines[x->first].seq != seq)
        return;
    struct report_line *l = &t->lines[x->first];
    memcpy(l->leaf, leaf, sizeof l->leaf);
    if (json && !(l->proof = strdup(json)))
        t->no_memory = true;
}

/* True: it could be read, whole or not. */
static bool read_one(struct report_trail *t, const struct report_scope *s, const char *dir, const char *second)
{
    struct audit_report *r = calloc(1, sizeof *r);
    struct report_chain *more =
        t->n_chains < REPORT_TRAILS_MAX ? realloc(t->chains, (t->n_chains + 1) * sizeof *more) : NULL;
    if (more)
        t->chains = more;
    if (!r || !more) {
        snprintf(t->why, sizeof t->why, r && !more ? "more than %d trails" : "out of memory", REPORT_TRAILS_MAX);
        free(r);
        return false;
    }
    struct report_chain *c = &t->chains[t->n_chains];
    struct reading x = {.t = t, .s = s, .chain = (uint16_t)t->n_chains, .first = t->n};
    struct audit_proofs_opts o = {
        .dirs = {dir, second}, .n_dirs = *second ? 2 : 1, .wanted = wanted, .proof = on_proof, .ctx = &x};
    struct err e = {""};
    *c = (struct report_chain){0};
    snprintf(c->dir, sizeof c->dir, "%s", dir);
    int rc = audit_proofs_make(&o, r, &e);
    sodium_bin2hex(c->id, sizeof c->id, r->chain, AUDIT_CHAIN_BYTES);
    c->records = r->records;
    c->covered = r->checkpointed ? r->checkpoint.size : 0;
    c->whole = rc == 0;
    if (rc > 0)
        snprintf(c->problem, sizeof c->problem, "%s at byte %" PRIu64 ": %.200s", r->problems[0].file,
                 r->problems[0].offset, r->problems[0].what);
    if (rc < 0)
        snprintf(t->why, sizeof t->why, "%s", e.text);
    else
        t->n_chains++;
    free(r);
    return rc >= 0;
}

/* The chain that a directory's first segment belongs to. */
static bool chain_of(const char *dir, unsigned char ret[static AUDIT_CHAIN_BYTES])
{
    struct audit_segments s = {0};
    struct err e;
    char path[1200], name[AUDIT_NAME_MAX];
    unsigned char head[AUDIT_HEADER_BYTES];
    struct audit_header h;
    bool found = false;
    if (access(dir, R_OK | X_OK) == 0 && audit_segments_list(&dir, 1, &s, &e) == 0 && s.n) {
        audit_segment_name(s.list[0].first, name);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        FILE *f = fopen(path, "rbe");
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

/* Where a trail went on when its own disk was full: the directory of its chain below the second one. */
static void find_second(const char *dir, const char *second, char ret[static 1024])
{
    unsigned char chain[AUDIT_CHAIN_BYTES], other[AUDIT_CHAIN_BYTES];
    DIR *d = *second && chain_of(dir, chain) ? opendir(second) : NULL;
    *ret = 0;
    for (struct dirent *f; d && !*ret && (f = readdir(d));) {
        char path[1024];
        snprintf(path, sizeof path, "%.700s/%.255s", second, f->d_name);
        if (*f->d_name != '.' && chain_of(path, other) && memcmp(chain, other, sizeof chain) == 0)
            memcpy(ret, path, sizeof path);
    }
    if (d)
        closedir(d);
}

/* Returns how many trails were read in this directory and, to a depth of two, below: a replica's, and what was set aside there. */
static size_t read_below(struct report_trail *t, const struct report_scope *s, const char *dir, const char *second,
                         int depth)
{
    unsigned char chain[AUDIT_CHAIN_BYTES];
    char went_on[1024], path[1024];
    size_t n = 0;
    if (chain_of(dir, chain)) {
        find_second(dir, second, went_on);
        n += read_one(t, s, dir, went_on);
    }
    DIR *d = depth > 0 ? opendir(dir) : NULL;
    for (struct dirent *f; d && (f = readdir(d));) {
        if (*f->d_name == '.' || (n && strncmp(f->d_name, SET_ASIDE, strlen(SET_ASIDE)) != 0 && depth == 1))
            continue;
        snprintf(path, sizeof path, "%.700s/%.255s", dir, f->d_name);
        n += read_below(t, s, path, second, depth - 1);
    }
    if (d)
        closedir(d);
    return n;
}

int report_trail_read(struct report_trail *t, const struct report_scope *s, const char *const *dirs, size_t n_dirs,
                      const char *second_dir)
{
    size_t n = 0;
    *t = (struct report_trail){0};
    for (size_t i = 0; i < n_dirs; i++)
        n += read_below(t, s, dirs[i], second_dir, 2);
    if (n == 0 && !*t->why)
        snprintf(t->why, sizeof t->why, "there is no trail in %.200s that can be read", n_dirs ? dirs[0] : "");
    report_trail_sort(t);
    return n ? 0 : -1;
}
