/* audit_shell.c - the audit service from its start to its end: opens the trail, has it trusted, lets it go; and the key's change. */
#include "audit/audit_shell.h"
#include "audit/audit_impl.h"
#include "common/log.h"
#include "common/subjects.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- what may come back when the state is gone ---- */

struct audit_tie *audit_tie_take(struct audit *a)
{
    a->tie->refs++;
    return a->tie;
}

struct audit *audit_tie_give(struct audit_tie *t)
{
    struct audit *a = t->a;
    if (--t->refs == 0)
        free(t);
    return a;
}

/* ---- start ---- */

static void on_durable(void *ctx)
{
    struct audit *a = ctx;
    struct audit_log_status st;
    if (!a->mirror || !a->log)
        return;
    audit_log_status(a->log, &st);
    audit_mirror_goal(a->mirror, &st);
}

static void on_checkpoint(void *ctx, const struct audit_checkpoint *c, const char *note, size_t len)
{
    (void)c, (void)note, (void)len; /* the status has them */
    on_durable(ctx);
    audit_announce(ctx);
}

int audit_open_log(struct audit *a, const char *distrust, struct audit_log_found *found, struct err *e)
{
    const struct set_audit *c = &a->s->settings->audit;
    struct audit_log_opts o = {.dir = a->s->replica.dir,
                               .second_dir = a->second_dir,
                               .key_file = c->key_file,
                               .segment_bytes = c->segment_bytes,
                               .distrust = distrust,
                               .on_durable = on_durable,
                               .on_checkpoint = on_checkpoint,
                               .ctx = a};
    a->log = audit_log_open(&a->s->loop, &o, found, e);
    if (a->log)
        audit_intake_remember(a);
    if (a->log && a->room.volume == AUDIT_SECOND)
        audit_log_place(a->log, true);
    return a->log ? 0 : -1;
}

static void on_sign(void *ctx)
{
    struct audit *a = ctx;
    if (a->log && a->phase != AUDIT_DRAINS)
        audit_log_checkpoint(a->log);
    audit_announce_copied(a);
}

/* A second directory that is away might hold the end of the trail: what is here would look cut. */
static int find_places(struct audit *a, struct err *e)
{
    const char *dir = a->s->settings->audit.second_dir;
    if (audit_home_open(a->s->replica.dir, dir, a->s->instance, a->name, e))
        return -1;
    if (!*dir)
        return 0;
    snprintf(a->second_dir, sizeof a->second_dir, "%.400s/%s", dir, a->name);
    if (mkdir(a->second_dir, 0700) && errno != EEXIST)
        return err_set(e, "cannot create %s: %s; mount its disk: a part of the trail may be there (audit.second_dir)",
                       a->second_dir, strerror(errno));
    return 0;
}

static void say_found(struct audit *a, const struct audit_log_found *found)
{
    if (found->torn_bytes)
        log_warn("a write that a crash cut short was removed from the trail's end; nothing acknowledged was in it",
                 F_INT("bytes", found->torn_bytes));
    if (found->key_changed)
        log_warn("a change of the trail's key that was cut short was brought to its end");
    if (found->pruned)
        log_info("segments whose deletion was cut short were deleted", F_INT("segments", found->pruned));
    if (found->fresh)
        log_info("new audit chain", F_STR("dir", a->s->replica.dir));
    if (found->set_aside[0]) {
        a->told_aside = true;
        log_error("the audit trail does not verify; it was set aside and a new chain was begun",
                  F_STR("why", found->why), F_STR("where", found->set_aside));
        audit_tell(a, "audit/tampered", true, false,
                   "The audit trail was damaged or tampered with; it was set aside as evidence", found->why);
    }
}

int audit_start(struct service *s, struct err *e)
{
    struct audit *a = calloc(1, sizeof *a);
    struct audit_log_found found;
    if (!a || !(a->tie = calloc(1, sizeof *a->tie))) {
        free(a);
        return err_set(e, "out of memory");
    }
    *a->tie = (struct audit_tie){.a = a, .refs = 1};
    a->s = s;
    s->state = a;
    if (find_places(a, e) || audit_wards_open(a, e) || audit_open_log(a, NULL, &found, e))
        return -1;
    say_found(a, &found);
    a->serve = (struct audit_serve){.s = s, .dirs = {s->replica.dir, a->second_dir}};
    loop_timer_init(&s->loop, &a->sign, on_sign, a);
    loop_timer_start(&a->sign, s->settings->audit.checkpoint_ms, s->settings->audit.checkpoint_ms);
    audit_on_room(s);
    return audit_trust_open(a, e);
}

/* ---- end ---- */

void audit_end_closed(void *ctx)
{
    struct audit *a = ctx;
    if (--a->open_ends == 0 && a->phase == AUDIT_DRAINS)
        service_drained(a->s);
}

static void on_log_closed(void *ctx)
{
    struct audit *a = ctx;
    bus_consumer_close(a->consumer); /* only now: what was in hand has been acknowledged */
    a->consumer = NULL;
    a->log = NULL;
    if (a->mirror) { /* it has the last checkpoint to copy */
        a->open_ends++;
        audit_mirror_close(a->mirror, audit_end_closed, a);
        a->mirror = NULL;
    }
    audit_end_closed(a);
}

void audit_drain(struct service *s)
{
    struct audit *a = audit_of(s);
    a->phase = AUDIT_DRAINS;
    audit_past_end(a);
    audit_trust_end(a);
    audit_intake_end(a);
    /* What is in hand goes back to the stream and comes again: ids make that harmless. */
    bus_consumer_close(a->consumer);
    a->consumer = NULL;
    a->open_ends += 2;
    loop_timer_close(&a->sign, NULL);
    audit_serve_end(&a->serve, audit_end_closed, a);
    audit_wards_drain(a);
    if (a->log)
        audit_log_close(a->log, on_log_closed, a);
    else
        audit_end_closed(a);
}

void audit_stop(struct service *s)
{
    struct audit *a = audit_of(s);
    a->tie->a = NULL;
    (void)audit_tie_give(a->tie);
    audit_intake_close(a);
    audit_wards_close(a);
    free(a);
    s->state = NULL;
}

/* ---- commands ---- */

static bool is_ours(const struct audit_log_status *st, const char *chain)
{
    char ours[2 * AUDIT_CHAIN_BYTES + 1];
    sodium_bin2hex(ours, sizeof ours, st->chain, sizeof st->chain);
    return strcmp(ours, chain) == 0;
}

void audit_on_read(struct service *s, const void *message, const struct bus_msg *m)
{
    struct audit *a = audit_of(s);
    const PB(AuditRead) *q = message;
    struct audit_log_status st;
    if (!a->log || !m->reply)
        return;
    audit_log_status(a->log, &st);
    if (!a->trusted)
        return;
    if (is_ours(&st, q->chain)) /* whoever has that chain answers, and nobody else */
        audit_serve_read(&a->serve, q, m->reply, &st);
    else
        (void)audit_wards_read(a, q, m->reply);
}

struct rotating {
    struct audit *a;
    char *reply;
    char by[129], reason[1025];
};

static void say_rotated(struct rotating *r, int class, int outcome, const char *detail, outbox_cb done)
{
    struct audit_log_status st;
    char chain[2 * AUDIT_CHAIN_BYTES + 1];
    audit_log_status(r->a->log, &st);
    sodium_bin2hex(chain, sizeof chain, st.chain, sizeof st.chain);
    PB(AuditRecord) record = REDOUBT__V1__AUDIT_RECORD__INIT;
    record.action = (char *)"audit.rotate";
    record.actor = r->by;
    record.subject = chain;
    record.audit_class = (Redoubt__V1__AuditClass) class;
    record.outcome = (Redoubt__V1__AuditOutcome)outcome;
    record.detail = (char *)detail;
    service_audit(r->a->s, &record, done, r);
}

static void end_rotating(struct rotating *r)
{
    struct audit *a = r->a;
    a->rotating = false;
    free(r->reply);
    free(r);
    audit_end_closed(a);
}

static void on_rotated(void *ctx, const char *error)
{
    struct rotating *r = ctx;
    struct service *s = r->a->s;
    bool failed = *error;
    struct audit_log_status st;
    char key[2 * AUDIT_PUBLIC_BYTES + 1];
    audit_log_status(r->a->log, &st);
    sodium_bin2hex(key, sizeof key, st.public_key, sizeof st.public_key);
    if (failed) {
        log_error("the trail's key was not changed", F_STR("why", error));
        service_reply(s, r->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0, "not changed: %s",
                      error);
    } else {
        log_info("the trail's key was changed", F_STR("by", r->by), F_STR("key", key));
        service_reply(s, r->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK, st.rotations,
                      "%s signs with key %s now, its change number %u", s->instance, key, (unsigned)st.rotations);
    }
    say_rotated(r, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_CONTINUITY,
                failed ? REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_FAILED
                       : REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_DONE,
                failed ? error : key, NULL);
    end_rotating(r);
}

static void on_intended(void *ctx, int status, const char *error)
{
    struct rotating *r = ctx;
    struct audit *a = r->a;
    if (status == 0 && a->phase == AUDIT_RUNS) {
        audit_log_rotate_key(a->log, on_rotated, r);
        return;
    }
    service_reply(a->s, r->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0, "refused: %s",
                  status ? error : "the service ends");
    end_rotating(r);
}

void audit_on_rotate(struct service *s, const void *message, const struct bus_msg *m)
{
    struct audit *a = audit_of(s);
    const PB(AuditCommand) *q = message;
    struct audit_log_status st;
    if (!a->log || !m->reply)
        return;
    audit_log_status(a->log, &st);
    if (*q->chain && !is_ours(&st, q->chain))
        return; /* another replica's */
    if (a->phase != AUDIT_RUNS || a->rotating) {
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0, "busy; ask again");
        return;
    }
    if (!*q->reason) {
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID, 0,
                      "say why: reason is empty");
        return;
    }
    struct rotating *r = calloc(1, sizeof *r);
    char *reply = r ? strdup(m->reply) : NULL;
    if (!reply) {
        free(r);
        return;
    }
    *r = (struct rotating){.a = a, .reply = reply};
    snprintf(r->by, sizeof r->by, "%s", q->by);
    snprintf(r->reason, sizeof r->reason, "%s", q->reason);
    a->rotating = true;
    a->open_ends++;
    say_rotated(r, REDOUBT__V1__AUDIT_CLASS__AUDIT_CLASS_STRICT, REDOUBT__V1__AUDIT_OUTCOME__AUDIT_OUTCOME_INTENDED,
                r->reason, on_intended);
}
