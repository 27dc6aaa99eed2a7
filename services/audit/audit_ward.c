/* audit_ward.c - the trails of replicas that are gone: finds them, takes one at a time, and reads them for others until an owner is there again. */
#include "audit/audit_segments.h"
#include "audit/audit_ward_impl.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metric.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who keeps a directory is not who owns it: the keeper's lock is taken by whoever is there first, and lasts as long as that lives. */
#define KEEPER_FILE "keeper.lock"

METRIC_DEFINE(adopted, METRIC_COUNTER, "redoubt_audit_adopted_total",
              "Trails of replicas that were gone, signed and brought up to date by this one.");
METRIC_DEFINE(kept, METRIC_GAUGE, "redoubt_audit_kept_trails",
              "Trails without an owner that this replica reads for others.");

/* ---- what is there: on a thread ---- */

struct look {
    uv_work_t work;
    struct audit *a;
    struct seen {
        bool wanted, asks, there, owned;
        int keeper_fd;
        uint64_t print;
        char dir[REPLICA_PATH], second[512];
    } seen[REPLICA_MAX];
};

static void add_print(uint64_t *h, const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        *h = (*h ^ ((const unsigned char *)data)[i]) * UINT64_C(0x100000001b3);
}

static void add_file(uint64_t *h, const char *dir, const char *name)
{
    char path[700];
    struct stat st;
    snprintf(path, sizeof path, "%.600s/%s", dir, name);
    if (!*dir || stat(path, &st))
        return;
    add_print(h, &st.st_ino, sizeof st.st_ino);
    add_print(h, &st.st_size, sizeof st.st_size);
    add_print(h, &st.st_mtim.tv_sec, sizeof st.st_mtim.tv_sec);
    add_print(h, &st.st_mtim.tv_nsec, sizeof st.st_mtim.tv_nsec);
}

/* Of what an owner changes: the checkpoint, and the end. */
static uint64_t print_of(const char *dir, const char *second)
{
    const char *dirs[2] = {dir, second};
    struct audit_segments have;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (int i = 0; i < 2; i++)
        add_file(&h, dirs[i], AUDIT_CHECKPOINT_FILE);
    if (audit_segments_list(dirs, 2, &have, NULL))
        return h;
    if (have.n > 0) {
        char name[AUDIT_NAME_MAX];
        audit_segment_name(have.list[have.n - 1].first, name);
        add_print(&h, name, strlen(name));
        add_file(&h, dirs[have.list[have.n - 1].dir], name);
    }
    audit_segments_free(&have);
    return h;
}

static bool holds_trail(const struct seen *s)
{
    char path[700];
    snprintf(path, sizeof path, "%s/" AUDIT_CHECKPOINT_FILE, s->dir);
    bool there = access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%s/" AUDIT_CHECKPOINT_FILE, s->second);
    return there || (*s->second && access(path, F_OK) == 0);
}

static int keep(const char *dir)
{
    char path[700];
    snprintf(path, sizeof path, "%s/" KEEPER_FILE, dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void on_look(uv_work_t *w)
{
    struct look *l = w->data;
    for (int i = 0; i < REPLICA_MAX; i++) {
        struct seen *s = &l->seen[i];
        s->there = s->wanted && holds_trail(s);
        if (!s->there)
            continue;
        if (s->keeper_fd < 0)
            s->keeper_fd = keep(s->dir);
        struct replica r;
        s->owned = s->keeper_fd < 0;
        if (!s->owned && s->asks) {
            s->owned = !replica_lock_dead(&l->a->s->replica, i, &r);
            if (!s->owned)
                replica_release(&r); /* only a look */
        }
        s->print = print_of(s->dir, s->second);
    }
}

/* ---- on the loop ---- */

static void count_kept(const struct audit *a)
{
    int64_t n = 0;
    for (int i = 0; i < REPLICA_MAX; i++)
        n += a->wards->list[i] && a->wards->list[i]->care.state == CARE_KEPT;
    metric_set(&kept, n);
}

static void do_effect(struct ward *w, enum care_effect effect)
{
    switch (effect) {
    case CARE_NOTHING:
        break;
    case CARE_TAKE:
        w->round++;
        w->mirroring = w->saying = w->said = w->retaining = w->retained = false;
        w->a->open_ends++; /* until it is closed */
        ward_open(w);
        break;
    case CARE_JUDGE:
        ward_judge(w);
        break;
    case CARE_FINISH:
        ward_finish(w);
        break;
    case CARE_CLOSE:
        ward_close(w);
        break;
    case CARE_SERVE:
        w->told = false;
        metric_add(&adopted, 1);
        log_info("the trail of a replica that is gone is complete; whoever starts next goes on with it",
                 F_STR("dir", w->dir), F_INT("records", w->left.size));
        break;
    case CARE_DROP:
        break;
    }
    count_kept(w->a);
}

static void decide(struct ward *w, const struct care_event *ev)
{
    enum care_effect effect = care_decide(&w->care, ev, clock_mono_ms());
    assert(care_ok(&w->care));
    do_effect(w, effect);
}

void ward_event(struct ward *w, enum care_event_kind kind)
{
    struct care_event ev = {.kind = kind};
    if (w->care.state != CARE_CLOSES || kind != CARE_WORKED) {
        decide(w, &ev);
        return;
    }
    ev.print = print_of(w->dir, w->second); /* while nobody else may change it */
    if (w->lock.lock_fd >= 0)
        replica_release(&w->lock);
    struct audit *a = w->a;
    decide(w, &ev);
    audit_end_closed(a);
}

void ward_refuse(struct ward *w, bool tampered, const char *why)
{
    if (!w->told) {
        log_error("the trail of a replica that is gone cannot be brought up to date", F_STR("dir", w->dir),
                  F_STR("why", why));
        char detail[ERR_TEXT_MAX + REPLICA_PATH];
        snprintf(detail, sizeof detail, "%s: %s", w->dir, why);
        audit_tell(w->a, tampered ? "audit/tampered" : "audit/adopt", tampered, false,
                   tampered
                       ? "The audit trail of a replica that is gone was damaged or tampered with; it is left as it is"
                       : "The audit trail of a replica that is gone cannot be brought up to date",
                   detail);
    }
    w->told = true;
    ward_event(w, CARE_FAILED);
}

static bool any_taken(const struct audit *a)
{
    for (int i = 0; i < REPLICA_MAX; i++)
        if (a->wards->list[i] && care_locked(&a->wards->list[i]->care))
            return true;
    return false;
}

static void on_looked(uv_work_t *work, int status)
{
    struct look *l = work->data;
    struct audit *a = l->a;
    const struct set_audit *c = &a->s->settings->audit;
    a->wards->looking = false;
    for (int i = 0; i < REPLICA_MAX; i++) {
        struct seen *s = &l->seen[i];
        struct ward *w = a->wards->list[i];
        if (!s->wanted)
            continue;
        w->keeper_fd = s->keeper_fd;
        bool owned = !s->there || s->owned || status < 0;
        /* One at a time: its turn comes. */
        if (a->phase != AUDIT_RUNS || (w->care.state == CARE_GONE && !owned && any_taken(a)))
            continue;
        decide(w, &(struct care_event){.kind = CARE_LOOKED,
                                       .owned = owned,
                                       .print = s->print,
                                       .keeps = *c->mirror && (c->keep_ms || c->keep_bytes)});
        ward_go_on(w);
    }
    free(l);
    audit_end_closed(a);
}

/* Of a second directory that is not there nothing can be said: it is taken when it is. */
static void name_places(struct ward *w)
{
    const char *root = w->a->s->settings->audit.second_dir;
    audit_home_of(w->dir, w->index, w->a->s->instance, w->name);
    w->second[0] = 0;
    if (*root)
        snprintf(w->second, sizeof w->second, "%.400s/%s", root, w->name);
}

static struct ward *ward_at(struct audit *a, int index)
{
    const char *own = a->s->replica.dir;
    size_t base = strlen(own);
    while (base > 0 && own[base - 1] != '/')
        base--;
    char dir[REPLICA_PATH];
    snprintf(dir, sizeof dir, "%.*s%d", (int)base, own, index);
    struct ward *w = a->wards->list[index];
    if (w || access(dir, F_OK))
        return w;
    w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    *w = (struct ward){.a = a, .index = index, .keeper_fd = -1, .lock.lock_fd = -1};
    memcpy(w->dir, dir, sizeof w->dir);
    w->serve = (struct audit_serve){.s = a->s, .dirs = {w->dir, w->second}};
    return a->wards->list[index] = w;
}

void audit_on_wards(struct service *s)
{
    struct audit *a = audit_of(s);
    if (a->phase != AUDIT_RUNS || a->wards->looking || service_tilted(s))
        return;
    struct look *l = calloc(1, sizeof *l);
    if (!l)
        return;
    l->work.data = l;
    l->a = a;
    for (int i = 0; i < REPLICA_MAX; i++) {
        struct ward *w = i == s->replica.index ? NULL : ward_at(a, i);
        if (!w)
            continue;
        if (!care_locked(&w->care) && w->care.state != CARE_KEPT)
            name_places(w);
        l->seen[i] = (struct seen){.wanted = true, .asks = care_asks_owner(&w->care), .keeper_fd = w->keeper_fd};
        memcpy(l->seen[i].dir, w->dir, sizeof w->dir);
        memcpy(l->seen[i].second, w->second, sizeof w->second);
    }
    a->wards->looking = true;
    a->open_ends++;
    int rc = uv_queue_work(&s->loop.uv, &l->work, on_look, on_looked);
    assert(rc == 0 && "uv_queue_work fails only without a work callback");
    (void)rc;
}

/* ---- for the others ---- */

static bool has_chain(const unsigned char chain[static AUDIT_CHAIN_BYTES], const char *hex)
{
    char ours[2 * AUDIT_CHAIN_BYTES + 1];
    sodium_bin2hex(ours, sizeof ours, chain, AUDIT_CHAIN_BYTES);
    return strcmp(ours, hex) == 0;
}

bool audit_wards_read(struct audit *a, const PB(AuditRead) * q, const char *reply)
{
    for (int i = 0; i < REPLICA_MAX; i++) {
        struct ward *w = a->wards->list[i];
        struct audit_log_status st;
        if (!w || (w->care.state != CARE_KEPT && w->care.state != CARE_CATCHES_UP))
            continue;
        w->serve.unowned = w->care.state == CARE_KEPT;
        if (w->serve.unowned)
            st = w->left;
        else
            audit_log_status(w->log, &st);
        if (!has_chain(st.chain, q->chain))
            continue;
        audit_serve_read(&w->serve, q, reply, &st);
        return true;
    }
    return false;
}

json_t *audit_wards_json(const struct audit *a)
{
    json_t *list = json_array();
    for (int i = 0; i < REPLICA_MAX; i++) {
        const struct ward *w = a->wards->list[i];
        char chain[2 * AUDIT_CHAIN_BYTES + 1] = "";
        if (!w || w->care.state == CARE_OWNED)
            continue;
        if (w->care.state == CARE_KEPT)
            sodium_bin2hex(chain, sizeof chain, w->left.chain, sizeof w->left.chain);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:I}", "name", w->name, "dir", w->dir, "state",
                                              care_state_name(w->care.state), "chain", chain, "size",
                                              (json_int_t)(w->care.state == CARE_KEPT ? w->left.size : 0)));
    }
    return list;
}

/* ---- start and end ---- */

int audit_wards_open(struct audit *a, struct err *e)
{
    a->wards = calloc(1, sizeof *a->wards);
    return a->wards ? 0 : err_set(e, "out of memory");
}

void audit_wards_drain(struct audit *a)
{
    for (int i = 0; i < REPLICA_MAX; i++) {
        struct ward *w = a->wards->list[i];
        if (!w)
            continue;
        a->open_ends++;
        audit_serve_end(&w->serve, audit_end_closed, a);
        if (w->care.state == CARE_JUDGES || w->care.state == CARE_CATCHES_UP)
            ward_event(w, CARE_FAILED); /* of OPENS its thread comes back first */
    }
}

void audit_wards_close(struct audit *a)
{
    for (int i = 0; a->wards && i < REPLICA_MAX; i++) {
        struct ward *w = a->wards->list[i];
        if (w && w->keeper_fd >= 0)
            close(w->keeper_fd);
        free(w);
    }
    free(a->wards);
    a->wards = NULL;
}
