/* audit_say.c - what the audit service says of its trail: alerts, the checkpoint on STATE, the status. */
#include "audit/audit_impl.h"
#include "common/log.h"
#include "common/metric.h"
#include "common/subjects.h"
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_DEFINE(announced, METRIC_COUNTER, "redoubt_audit_checkpoints_total", "Checkpoints that are kept on the bus.");

static const char *const phases[] = {
    [AUDIT_WAITS] = "waits", [AUDIT_COMPARES] = "compares", [AUDIT_REOPENS] = "reopens",
    [AUDIT_RUNS] = "runs",   [AUDIT_DRAINS] = "drains",
};
static const char *const mirror_states[] = {
    [AUDIT_MIRROR_FOLLOWS] = "follows", [AUDIT_MIRROR_AWAY] = "away", [AUDIT_MIRROR_SOURCE] = "stopped"};

void audit_tell(struct audit *a, const char *key, bool critical, bool resolved, const char *summary,
                const char *detail)
{
    PB(Alert) alert = REDOUBT__V1__ALERT__INIT;
    alert.dedup_key = (char *)key;
    alert.severity = critical ? REDOUBT__V1__SEVERITY__SEVERITY_CRITICAL : REDOUBT__V1__SEVERITY__SEVERITY_HIGH;
    alert.summary = (char *)summary;
    alert.detail = (char *)detail;
    alert.resolved = resolved;
    alert.manual_intervention_required = critical && !resolved;
    service_alert(a->s, &alert);
}

void audit_told_alarm(struct audit *a, struct audit_alarm *alarm, int64_t value_ms, const char *key,
                      const char *summary, const char *over)
{
    int64_t raise_ms = a->s->settings->audit.warn_lag_ms;
    char detail[256];
    alarm->value = value_ms;
    if (alarm->on ? value_ms > raise_ms / 2 : value_ms < raise_ms)
        return;
    alarm->on = !alarm->on;
    snprintf(detail, sizeof detail,
             "%s: %" PRId64 " s behind; the limit is %" PRId64 " s, and at most 300 s may be lost", a->s->instance,
             value_ms / 1000, raise_ms / 1000);
    audit_tell(a, key, false, !alarm->on, alarm->on ? summary : over, detail);
}

/* ---- the checkpoint on STATE ---- */

static void on_announced(void *ctx, const struct bus_stored *r)
{
    struct audit *a = audit_tie_give(ctx);
    if (!a)
        return;
    a->announcing = false;
    if (r->status == BUS_OK)
        metric_add(&announced, 1);
    else if (r->status == BUS_REFUSED)
        log_warn("a checkpoint is not on the bus", F_STR("why", r->error));
    if (a->announce_again && r->status != BUS_CLOSED)
        audit_announce(a);
}

/* One at a time: what matters is the newest. */
void audit_announce(struct audit *a)
{
    struct audit_log_status st;
    if (!a->log || !a->trusted)
        return;
    if (a->announcing) {
        a->announce_again = true;
        return;
    }
    audit_log_status(a->log, &st);
    char chain[2 * AUDIT_CHAIN_BYTES + 1], note[AUDIT_NOTE_MAX + 1], subject[SUBJECT_MAX_LEN];
    sodium_bin2hex(chain, sizeof chain, st.chain, sizeof st.chain);
    snprintf(note, sizeof note, "%.*s", (int)st.note_len, st.note);
    snprintf(subject, sizeof subject, SUBJECT_CHECKPOINT "%s", chain);
    PB(AuditCheckpoint) c = REDOUBT__V1__AUDIT_CHECKPOINT__INIT;
    c.chain = chain;
    c.instance = a->name;
    c.size = st.checkpoint_size;
    c.note = note;
    c.at_unix_ms = st.checkpoint_unix_ms;
    c.lag_ms = (uint32_t)(a->behind_ms < UINT32_MAX ? a->behind_ms : UINT32_MAX);
    if (a->mirror) {
        struct audit_mirror_status m;
        audit_mirror_status(a->mirror, &m);
        c.mirrored = m.size;
    }
    a->said_mirrored = c.mirrored;
    a->announcing = true;
    a->announce_again = false;
    service_announce(a->s, subject, NULL, &c, on_announced, audit_tie_take(a));
}

/* The copy is made after the checkpoint: without another one it would seem behind for ever. */
void audit_announce_copied(struct audit *a)
{
    struct audit_mirror_status m;
    if (!a->mirror)
        return;
    audit_mirror_status(a->mirror, &m);
    if (m.size > a->said_mirrored)
        audit_announce(a);
}

/* ---- status ---- */

static void add_mirror(struct audit *a, json_t *j)
{
    if (!a->mirror)
        return;
    struct audit_mirror_status m;
    audit_mirror_status(a->mirror, &m);
    json_object_set_new(j, "mirror",
                        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "state", mirror_states[m.state], "dir",
                                  m.dir, "size", (json_int_t)m.size, "signed_to", (json_int_t)m.signed_to, "lag_ms",
                                  (json_int_t)m.behind_ms, "differing", (json_int_t)m.differing, "differs", m.differs,
                                  "why", m.why));
}

/* How much could be lost with this host, now: what waits on the stream is kept there, what is in the trail alone is not. */
static int64_t rpo_ms(const struct audit *a)
{
    return a->mirror ? a->mirror_lag.value : -1;
}

/* `redoubt.v1.cmd.audit.status`: JSON in the payload. */
void audit_on_status(struct service *s, const void *message, const struct bus_msg *m)
{
    struct audit *a = audit_of(s);
    struct audit_log_status st;
    (void)message;
    if (!a->log) {
        service_reply(s, m->reply, REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_UNAVAILABLE, 0,
                      "the trail is set aside, and a new one begun");
        return;
    }
    char chain[2 * AUDIT_CHAIN_BYTES + 1], hash[2 * AUDIT_HASH_BYTES + 1], root[2 * AUDIT_ROOT_BYTES + 1],
        key[2 * AUDIT_PUBLIC_BYTES + 1];
    audit_log_status(a->log, &st);
    sodium_bin2hex(chain, sizeof chain, st.chain, sizeof st.chain);
    sodium_bin2hex(hash, sizeof hash, st.hash, sizeof st.hash);
    sodium_bin2hex(root, sizeof root, st.root, sizeof st.root);
    sodium_bin2hex(key, sizeof key, st.public_key, sizeof st.public_key);
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I, s:I, s:s, s:I, s:I, s:I, s:s, s:I, s:I, s:I}",
                          "instance", s->instance, "phase", phases[a->phase], "dir", s->replica.dir, "chain", chain,
                          "size", (json_int_t)st.size, "hash", hash, "root", root, "checkpoint_size",
                          (json_int_t)st.checkpoint_size, "checkpoint_unix_ms", (json_int_t)st.checkpoint_unix_ms,
                          "key", key, "rotations", (json_int_t)st.rotations, "pruned", (json_int_t)st.pruned,
                          "waiting", (json_int_t)st.waiting, "room", audit_room_rows[a->room.step].name, "behind",
                          (json_int_t)a->behind, "lag_ms", (json_int_t)a->behind_ms, "rpo_ms", (json_int_t)rpo_ms(a));
    if (j)
        add_mirror(a, j);
    if (j && a->wards)
        json_object_set_new(j, "adopted", audit_wards_json(a));
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    PB(CommandReply) reply = REDOUBT__V1__COMMAND_REPLY__INIT;
    reply.status = REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK;
    reply.payload.data = (uint8_t *)text;
    reply.payload.len = text ? strlen(text) : 0;
    service_reply_message(s, m->reply, &reply);
    free(text);
    json_decref(j);
}
