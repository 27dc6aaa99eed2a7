/* continuity_impl.h - the room's insides, for the shell's own files. Parts go by continuity_shell.h. */
#ifndef REDOUBT_CONTINUITY_IMPL_H
#define REDOUBT_CONTINUITY_IMPL_H

#include "common/err.h"
#include "common/order.h"
#include "continuity/continuity_shell.h"
#include "continuity/continuity_sight.h"
#include <uthash.h>

#define LEADER_CMD SUBJECT_CMD "continuity-leader." /* to all replicas: whoever leads answers */
#define PARTS      4

/* What the shell remembers of an incident beside the board. */
struct file {
    char id[INCIDENT_ID];
    struct file *next_dirty;
    uint64_t said;    /* epoch of the last document that was said */
    uint32_t counted; /* of its agents: in their availability */
    uint32_t again;   /* how often a document was said once more */
    int64_t late_ms,
        checked_ms;  /* phases, by when they were entered: told to be overdue; looked at for what is over */
    uint8_t alerted; /* the severity that people were told since it began to lead */
    bool dirty, announce, check, report;
    bool said_now; /* since the last flush */
    bool told;     /* people know, whether or not the board does */
    UT_hash_handle hh;
};
/* How long an agent was in which condition. */
struct agent_time {
    char name[NAME_MAX_LEN + 1];
    struct availability a;
    uint64_t revision, fence;
    int64_t found_ms; /* while the board is rebuilt: since when its condition holds */
    bool dirty;
    UT_hash_handle hh;
};
/* What was shown of an objective, of one scope. */
struct shown {
    char subject[SUBJECT_MAX_LEN];
    enum set_objective objective;
    char scope[NAME_MAX_LEN + 1];
    struct objective_history history;
    UT_hash_handle hh;
};
/* The last document of a part, as it came: what a part that opens is told. */
struct part_doc {
    char subject[SUBJECT_MAX_LEN];
    const ProtobufCMessageDescriptor *desc;
    void *data;
    size_t len;
    uint64_t fence;
    UT_hash_handle hh;
};
/* How far the copies of a trail are. */
struct trail {
    char chain[40];
    bool mirrors, whole; /* a second directory is set; it has all of the newest checkpoint */
    uint64_t size;
    int64_t at_ms, copied_ms; /* its newest checkpoint; the newest of which all is copied */
    UT_hash_handle hh;
};
/* An RPO's breach that people were told, and the verdict that was said last. */
struct verdict {
    int said;
    bool alerted;
};

struct continuity {
    struct service *s;
    char dir[REPLICA_PATH];

    /* time */
    struct continuity_time time;
    char boot_id[40];
    int64_t anchored_mono_ms;
    struct log_limit anchor_trouble;

    /* who leads */
    struct lease *lease;
    bool leads, without_lease;
    uint64_t fence;      /* ours, the last one */
    uint64_t fence_seen; /* the highest that anybody has shown */
    char leader[129];
    int64_t leader_since_ms;
    bool synced, ever_synced, standing_down;
    int64_t bus_down_mono_ms, store_down_mono_ms, doubt_mono_ms; /* since; 0 = it is not so */
    int64_t heard_mono_ms;                                       /* the last beat of another */
    int64_t beat_mono_ms, ready_mono_ms;

    /* what is so */
    struct board *board;
    struct sight *sight;
    struct file *files, *dirty;
    struct agent_time *agents;
    bool agents_sorted;
    size_t agents_dirty; /* about so many are to be announced */
    size_t unkept;       /* documents that wait for the disk */
    struct log_limit not_kept;
    struct shown *shown;
    struct part_doc *docs;
    struct trail *trails;
    struct verdict verdicts[SET_OBJECTIVES];
    int64_t status_mono_ms, judged_mono_ms, flushed_mono_ms, pruned_mono_ms;
    uint64_t status_revision;
    bool more;      /* than went in one turn */
    bool restoring; /* what the board says now is no news */
    struct loop_timer wake, flush;

    /* parts, while it leads */
    struct backups *backups;
    struct config_room *config;
    struct gamedays *gamedays;
    struct reports *reports;
};

/* continuity_shell.c */
void room_signal(struct continuity *c,
                 const struct signal *s); /* if it leads, and the settings know whom it is about */
bool room_event(struct continuity *c, const char *id, const struct incident_event *ev, struct incident **ret);
void room_arm(struct continuity *c);                             /* after the board has changed */
int64_t room_clock_offset(const struct continuity *c);           /* continuity time minus the wall clock */
const char *room_text(char *buf, size_t size, const char *text); /* cut to what a message takes, as UTF-8 */

/* continuity_clock.c */
void clock_start(struct continuity *c);
void clock_seen(struct service *s, const void *message, const struct bus_msg *m); /* ContinuityTime */
void clock_keep(struct continuity *c);                                            /* on disk */
void clock_say(struct continuity *c);                                             /* on STATE */

/* continuity_lead.c */
int64_t lead_beat_ms(
    const struct continuity *c); /* of ContinuityTime, and of the anchors on disk: 10 s with the default lease */
void lead_tick(struct continuity *c);
void lead_store_up(struct continuity *c);
void lead_store_down(struct continuity *c);
void lead_bus(struct continuity *c, bool up);
void lead_heard(struct continuity *c, const char *instance, uint64_t fence);
void lead_outdone(struct continuity *c); /* a document of a later leader came */
void lead_end(struct continuity *c);     /* drain: gives the lease back, then service_drained() */

/* continuity_in.c: messages of others */
void room_directive(struct service *s, const void *message, const struct bus_msg *m);
void room_ack(struct service *s, const void *message, const struct bus_msg *m);
void room_health(struct service *s, const void *message, const struct bus_msg *m);
void room_breaker(struct service *s, const void *message, const struct bus_msg *m);
void in_rollback(struct service *s, const void *message, const struct bus_msg *m);
void in_delivery(struct service *s, const void *message, const struct bus_msg *m);
void in_problem(struct service *s, const void *message, const struct bus_msg *m);
void in_checkpoint(struct service *s, const void *message, const struct bus_msg *m);
bool in_knows_target(const struct continuity *c, const char *target); /* some agent uses it */
bool in_rpo_audit(const struct continuity *c, int64_t *ret_point_ms, const char **ret_by);

/* continuity_docs.c: documents of its own */
void docs_incident(struct service *s, const void *message, const struct bus_msg *m);
void docs_agent(struct service *s, const void *message, const struct bus_msg *m);
void docs_shown(struct service *s, const void *message, const struct bus_msg *m);
void docs_backup(struct service *s, const void *message, const struct bus_msg *m);
void docs_drill(struct service *s, const void *message, const struct bus_msg *m);
void docs_config(struct service *s, const void *message, const struct bus_msg *m);
void docs_hand_over(struct continuity *c); /* to the parts */
void docs_told(struct continuity *c);      /* to the board: people know, by receipts that came before it led */
void docs_free(struct continuity *c);
struct file *docs_file(struct continuity *c, const char *id); /* made if new; NULL if memory is out */
void docs_forget(void *ctx, const char *id);                  /* its document goes from STATE */
bool docs_rebuild(struct continuity *c); /* a board of documents alone, as one who follows has it */

/* continuity_avail.c */
struct agent_time *avail_of(struct continuity *c, const char *agent); /* made if new; NULL if memory is out */
void avail_condition(void *ctx, const char *agent, unsigned was, unsigned is, bool drill, int64_t at_ms);
void avail_settle(struct continuity *c); /* after the board was rebuilt: what has changed meanwhile */
void avail_known(struct continuity *c);  /* agents of the settings that are new */
void avail_again(struct continuity *c, struct agent_time *a); /* announced once more */
void avail_incident(struct continuity *c, struct incident *x, struct file *f);
void avail_say(struct continuity *c, size_t most);
void avail_command(struct continuity *c, const PB(ContinuityCommand) * cmd, const char *reply, const char *note);

/* continuity_say.c */
void say_effect(void *ctx, struct incident *x, const struct incident_effect *e);
void say_flush(struct continuity *c,
               bool all); /* what the board has changed: documents, events, checks, reports; some of it */
bool say_waits(const struct continuity *c); /* there is more, and it may go */
/* The document of one incident at once; then(ctx, 0) when it is durable here. */
void say_incident(struct continuity *c, struct incident *x, outbox_cb then, void *ctx);
void say_later(struct continuity *c, struct file *f);
struct shown *say_shown(struct continuity *c, enum set_objective o,
                        const char *scope); /* made if new; NULL if memory is out */
void say_document(struct continuity *c, const char *subject, const char *id, const void *message, outbox_cb then,
                  void *ctx);

/* continuity_alerts.c */
void alerts_incident(struct continuity *c, const struct incident *x, struct file *f);
void alerts_resolved(struct continuity *c, const struct incident *x);
void alerts_clock(struct continuity *c, const struct incident *x, uint8_t objective, uint8_t share);
void alerts_overdue(struct continuity *c, const struct incident *x, struct file *f);
void alerts_overdue_over(struct continuity *c, const struct incident *x, struct file *f);

/* continuity_status.c */
void status_tick(struct continuity *c, int64_t now_ms);
void status_command(struct continuity *c, const PB(ContinuityCommand) * cmd, const char *reply, const char *note);
void status_line(PB(IncidentLine) * l, PB(ObjectiveClock) * clock, const struct continuity *c,
                 const struct incident *x, int64_t now_ms);

/* continuity_check.c: what validation asks of agents. NULL = all is well; otherwise what is not, in buf. */
const char *check_incident(struct continuity *c, const struct incident *x, char *buf, size_t size);

/* continuity_cmd.c */
void room_command(struct service *s, const void *message, const struct bus_msg *m);
void cmd_leader(struct service *s, const void *message, const struct bus_msg *m);
void room_answer(struct continuity *c, const char *reply, int status, const char *text, uint64_t epoch,
                 const void *payload);

/* continuity_parts.c */
void parts_open(struct continuity *c);
void parts_close(struct continuity *c);
void parts_tick(struct continuity *c, int64_t now_ms);
void parts_reload(struct continuity *c);
/* False if no part has this verb. */
bool parts_command(struct continuity *c, const char *verb, const PB(ContinuityCommand) * cmd, const char *reply);
bool parts_verb(const char *verb);
void parts_seen(struct continuity *c, const ProtobufCMessageDescriptor *desc, const void *message);
bool parts_report(struct continuity *c, const struct incident *x); /* false: not open; ask again */
void parts_delivery(struct continuity *c, const PB(DeliveryReceipt) * d);
size_t parts_backups(const struct continuity *c, const PB(BackupState) * *ret, size_t max);
size_t parts_drills(const struct continuity *c, const PB(DrillState) * *ret, size_t max);
const PB(ConfigState) * parts_config(const struct continuity *c);
bool parts_point(const struct continuity *c, enum set_objective rpo, int64_t *ret_point_ms, int64_t *ret_expected_ms,
                 const char **ret_source);

#endif
