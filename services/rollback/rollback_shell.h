/* rollback_shell.h - what the shell's files share: the service's state, one record per deployment.
 *
 * The way of an event: decided on a copy of the document; strict records made durable in the outbox; the copy written by compare-and-set under
 * the partition's token; announced; only then the effects are carried out. What comes meanwhile waits in the queue, so that a deployment has one
 * decision at a time and one act in hand. */
#ifndef REDOUBT_ROLLBACK_SHELL_H
#define REDOUBT_ROLLBACK_SHELL_H

#include "common/order.h"
#include "common/service.h"
#include "common/share.h"
#include "common/sm.h"
#include "common/store_trouble.h"
#include "common/subjects.h"
#include "rollback/rollback.h"
#include "rollback/rollback_check.h"
#include "rollback/rollback_data.h"
#include "rollback/rollback_doc.h"
#include "rollback/rollback_executor.h"
#include "rollback/rollback_sight.h"
#include "rollback/rollback_traffic.h"
#include <uthash.h>

extern const struct service_desc rollback_service;

#define KEY_TEXT   (NAME_MAX_LEN + 24)
#define UNKEPT_MAX (ROLLBACK_VERSIONS + ROLLBACK_LINEAGE)

/* How a version is made again: of its VersionRecord. */
struct version_record {
    char id[ROLLBACK_ID], name[ROLLBACK_NAME], digest[129], image[513];
    char *spec; /* zero-terminated */
    size_t spec_len;
    struct version_record *next;
};

/* An order, its texts kept. */
struct order {
    char by[ROLLBACK_WHO], reason[1025], job[ROLLBACK_JOB], to[ROLLBACK_NAME], snapshot[ROLLBACK_SNAPSHOT];
    bool emergency, force, tainted;
    int64_t tainted_since_ms;
};

/* An event that waits for its turn. */
struct queued {
    enum rollback_event_kind kind;
    char reply[ORDER_REPLY]; /* of the operator who asked; "" = none */
    union {
        struct order order;
        struct rollback_sight sight;
        struct rollback_did did;
        struct {
            struct rollback_sample *samples;
            size_t n;
            bool suite;
        } checked;
        struct {
            struct rollback_version version;
            struct rollback_sight sight;
            bool healthy, passed, worse;
            char why[240];
        } seen;
        struct {
            struct rollback_finding *finding;
            size_t n;
        } kept;
    } u;
    struct queued *next;
};

/* Where a deployment's document is. */
enum place {
    AWAY,      /* this replica does not act for it */
    LOADING,   /* asked for */
    HERE,      /* doc is the document; nothing in flight */
    RECORDING, /* strict records of a decision are being made durable */
    STORING,   /* next is being written */
    HURT,      /* the store did not do what was asked; loaded again soon */
    PLACES,
};

struct call;
struct deployment {
    char name[NAME_MAX_LEN + 1];
    char key[KEY_TEXT];
    struct rollback_room *room;
    unsigned partition;
    struct deployment *mate_prev, *mate_next; /* of the same partition */

    /* Settings: copies, since a job goes on with those that it began with. */
    struct set_deployment *set;
    struct set_deployment *next_set; /* taken over when no job is under way; NULL = none waits */
    bool leaving;                    /* it is not in the settings any more; goes when its job has ended */
    struct rollback_rule rule;
    const char **rejected; /* of the rule */
    const struct executor_kind *executor_kind;
    const struct traffic_kind *traffic_kind;
    struct executor *executor; /* these four only while this replica acts for it */
    struct traffic *traffic;
    struct checks *checks;
    struct data *data;
    bool open;
    bool stopping;                 /* the service drains: a writer that is paused is asked to go on */
    char closed_why[ERR_TEXT_MAX]; /* why one of them could not be opened */
    struct log_limit closed_limit;

    int place;
    uint64_t op;              /* of the store command in flight; older answers are ignored */
    uint64_t generation;      /* grows when it is taken or forgotten: callbacks from before find nobody */
    uint64_t rev;             /* of the stored document; 0 = absent */
    struct rollback_doc *doc; /* NULL = never known to this process */
    struct rollback_bytes packed;
    bool pending;  /* packed is not known to be on the stream */
    bool restored; /* doc is not what the store holds: write it, whatever else happens */
    bool fresh;    /* doc was begun here and is not known to be stored anywhere */
    int announcing;
    int64_t announced_mono_ms;
    bool running;

    /* A decision on its way; what was decided upon, the copy, and what comes with it. */
    struct queued *deciding;
    struct rollback_doc *next; /* NULL = nothing changed */
    struct rollback_bytes next_packed;
    struct rollback_effect *held;
    size_t n_held;
    size_t records; /* in flight */
    bool unrecorded;
    char unrecorded_why[200];
    int64_t put_mono_ms;

    struct queued *queue, **queue_end;
    bool tick;
    struct loop_timer wake, observe, glance, again; /* again: the write that is repeated */
    int64_t wake_at_ms;                             /* shared time; INT64_MAX = none */
    bool timers;                                    /* initialised */

    struct call *calls;
    bool looking, checking, inspecting, glancing, steering;
    /* At rest: what stood when it was last looked at, and where the traffic belongs; -1 = nobody sees to it. */
    struct executor_instance *stood;
    size_t n_stood;
    int rest_side;
    char steer_error[300];      /* why the last set without a job has failed; "" if it has not */
    unsigned raised;            /* a bit per notice: it is not known to be over */
    bool seeing;                /* an observation is under way: it has one of the places */
    int64_t see_due_mono_ms;    /* when the last one was due */
    int64_t wait_since_mono_ms; /* it was due then */
    uint32_t draw;              /* random, a new one for each */
    bool see_waits, load_waits;
    struct deployment *wait_prev, *wait_next; /* for a place; it waits for one thing at a time */
    uint64_t turned;                          /* grows when an act begins or ends: a look from before is of no use */
    struct rollback_effect *unkept;           /* what is still to be protected from clean-up */
    size_t n_unkept;
    struct version_record *records_known;
    char on_stream[ROLLBACK_VERSIONS][ROLLBACK_ID]; /* versions whose records this process has put on the stream */
    size_t n_on_stream, next_on_stream;
    struct rollback_judge observed; /* without a job: of `observed_version` */
    char observed_version[ROLLBACK_ID];
    int64_t observed_step_ms; /* when what was counted began */
    unsigned unseen;          /* observations without an answer, in a row */
    bool unseen_alert;

    /* An operator who waits to hear how PREPARE ends. */
    char starting[ORDER_REPLY], starting_job[ROLLBACK_JOB];
    struct loop_timer starting_limit;

    struct rollback_bytes seen; /* the newest announcement that the watch saw */
    uint64_t seen_epoch;
    uint64_t last_seen_epoch; /* of the last one that came, newest or not: what the stream holds */
    UT_hash_handle hh;
};

struct rollback_room {
    struct service *s;
    const struct conf_schema *schema; /* of a deployment's settings */
    struct partitions *partitions;    /* NULL before the store was up for the first time, and while draining */
    struct deployment *of[PARTITIONS];
    struct share_said said;
    struct deployment *deployments;
    bool synced;      /* the watch has replayed the present, and the bus is up since */
    bool ever_synced; /* that happened once in this process */
    bool bus_up;
    struct store_trouble store_trouble;
    bool tilted; /* at the last tick */
    bool given_back;
    struct loop_timer stop_limit;
    uint64_t calls;
    struct deployment *see_wait, *load_wait; /* who waits for a place */
    unsigned sees, loads;                    /* places that are taken */
    bool turn;                               /* rollback_pace's next turn is asked for */
    size_t restored;                         /* documents, since the last tick */
    char restored_first[NAME_MAX_LEN + 1], restored_why[200];
    struct log_limit trouble;
};

/* A callback's way back: the deployment is looked up again by name, since it may be gone, and lost and got again. */
struct ticket {
    struct service *s;
    char deployment[NAME_MAX_LEN + 1];
    uint64_t generation, n;
};
struct ticket *rollback_ticket(struct deployment *d, uint64_t n);
/* Frees t; NULL if the deployment is gone. Its number goes to *ret_n. */
struct deployment *rollback_ticket_back(struct ticket *t, uint64_t *ret_n);

/* rollback_shell.c */
struct deployment *rollback_room_find(struct rollback_room *r, const char *name);
/* The token of its partition; 0 = we do not act for it. */
uint64_t deployment_fence(const struct deployment *d);

/* rollback_open.c: settings and backends */
bool deployment_take_settings(struct deployment *d, const struct set_deployment *set); /* false if memory is out */
void deployment_open(struct deployment *d);  /* what is not open yet; says why it cannot be */
void deployment_close(struct deployment *d); /* cancels what is in hand */
void deployment_settings_free(struct deployment *d);
void deployment_settle_settings(struct deployment *d); /* takes over what waits, if no job is under way */
bool rollback_open_check(const struct settings *settings, struct conf_report *r);

/* rollback_state.c: documents */
extern const struct sm_table rollback_place_sm;
void deployment_move(struct deployment *d, int to);
void deployment_load(struct deployment *d);
void deployment_read(struct deployment *d);          /* its place to load has come */
void deployment_forget(struct deployment *d);        /* its partition is lost */
bool deployment_decided(const struct deployment *d); /* its document is known */
void deployment_write(struct deployment *d);         /* d->next; deployment_finish() when it has won */
void deployment_put(struct deployment *d);           /* d->next, or what there is */
void rollback_put_again(void *ctx);                  /* the write that had no answer */
void deployment_marked(struct deployment *d);        /* its announcement is on the stream */
void deployment_free(struct deployment *d);

/* rollback_event.c: events and decisions. q is malloc'ed; whoever gets it frees it. */
void rollback_queued_free(struct queued *q);
void deployment_event(struct deployment *d, struct queued *q);
void deployment_taken(struct deployment *d); /* look at the world anew */
void deployment_tick(struct deployment *d);
void deployment_run(struct deployment *d);
void deployment_recorded(struct deployment *d, bool durable, const char *why);
void deployment_finish(struct deployment *d);        /* the decision is written: it is carried out */
void deployment_decide_again(struct deployment *d);  /* on what will be read */
void deployment_drop_decision(struct deployment *d); /* all but the event */
void deployment_refuse(struct deployment *d, struct queued *q, const char *why);
void deployment_refuse_all(struct deployment *d, const char *why);
void deployment_drop_all(struct deployment *d);

/* rollback_effects.c: what a decision asks for */
void deployment_carry_out(struct deployment *d, const struct queued *q, const struct rollback_effect *effects,
                          size_t n);
void deployment_wake_at(struct deployment *d, int64_t at_ms);
void deployment_look(struct deployment *d);
void deployment_keep_all(struct deployment *d);  /* what is kept is to be said to the executor again ... */
void deployment_keep_owed(struct deployment *d); /* ... now */

/* rollback_call.c: one question or act, with all that it needs, until its end */
struct call {
    struct deployment *d;
    uint64_t id;
    struct rollback_effect e;
    void (*then)(struct call *c), (*after)(struct call *c);
    /* What stands, as a copy. */
    struct executor_view view;
    struct traffic_view traffic;
    bool traffic_asked;
    char view_error[512], traffic_error[512];
    struct rollback_sight sight;
    /* What is asked for; the texts are the call's own. */
    struct executor_order order;
    char job[ROLLBACK_JOB], version[ROLLBACK_ID], name[ROLLBACK_NAME], digest[129], image[513],
        snapshot[ROLLBACK_SNAPSHOT];
    char *spec;
    struct traffic_order shares;
    char side_version[2][ROLLBACK_ID], side_name[2][ROLLBACK_NAME], side_digest[2][129];
    const char *addresses[2][EXECUTOR_INSTANCES];
    size_t n_addresses[2];
    char **argv;
    /* What came of several questions. */
    unsigned waits;
    bool failed, lasting;
    bool second; /* SNAPSHOT: the job's second */
    char text[1024];
    uint64_t turned;
    int64_t began_mono_ms;
    /* plan: for whom. */
    char reply[ORDER_REPLY];
    struct order asked;
    struct rollback_version found; /* seen */
    struct inspection *inspection; /* of kept versions */
    struct call *prev, *next_call;
};
struct call *call_new(struct deployment *d, const struct rollback_effect *e); /* never NULL */
void call_end(struct call *c);
void calls_end(struct deployment *d);
/* Asks the executor; then(c) has c->view. */
void call_view(struct call *c, void (*then)(struct call *c));
/* Asks both; then(c) has c->sight, too. */
void call_look(struct call *c, void (*then)(struct call *c));
/* Fills c->order for a version; then(c). Without a record (c->spec is NULL) c->text says why. */
void call_order(struct call *c, const char *version, int side, unsigned count, void (*then)(struct call *c));
/* Addresses of the ready instances of a version, into one of the two places. */
void call_addresses(struct call *c, int place, const char *version);
/* executor, traffic and data are asked whether the order could be carried out; then(c) has failed, lasting and text. */
void call_preflight(struct call *c, void (*then)(struct call *c));

/* rollback_ops.c: acts */
void deployment_do(struct deployment *d, const struct rollback_effect *e);
void deployment_did_not(struct deployment *d, const struct rollback_effect *e, bool lasting, const char *why);

/* rollback_steer.c: the traffic without a job */
void deployment_on_glance(void *ctx);
void deployment_stood(struct call *c); /* it was looked at, and no job is under way */
bool deployment_may_steer(const struct deployment *d);
void deployment_steer(struct deployment *d, const struct rollback_effect *e);
/* rollback_pace.c: what many deployments want at once is done a few at a time */
void pace_start(struct deployment *d); /* it is looked at from now on */
void pace_on_observe(void *ctx);
void pace_seen(struct deployment *d); /* its observation is over, or was given up */
void pace_load(struct deployment *d);
void pace_loaded(struct rollback_room *r); /* one that was read */
void pace_forget(struct deployment *d);    /* it waits for nothing any more */

/* rollback_seen.c: observation */
bool deployment_may_see(const struct deployment *d);
void deployment_see(struct deployment *d);
void deployment_check(struct deployment *d, const struct rollback_effect *e);

/* rollback_inspect.c: kept versions */
void deployment_inspect(struct deployment *d); /* if it is time */

/* rollback_record.c: versions' records */
#define RECORD_SPEC_MAX 49152 /* the contract's */
const struct version_record *record_known(const struct deployment *d, const char *id);
void record_from_view(struct deployment *d, const struct executor_version *v);
bool record_take(struct deployment *d, const void *data, size_t len, const char *id, struct err *e);
void record_say(struct deployment *d, const struct executor_version *v, bus_stored_cb cb, void *ctx);
void records_prune(struct deployment *d); /* those of versions that the document does not know */
void records_free(struct deployment *d);

/* rollback_say.c */
void deployment_announce(struct deployment *d);
void deployment_unseen(struct deployment *d, const char *why); /* NULL = it is seen again */
void deployment_alert(struct deployment *d, const struct rollback_effect *e, bool resolved);
void deployment_alert_again(struct deployment *d); /* after it was taken over */
/* Of a decision on `doc`; done calls deployment_recorded() for strict ones. */
void deployment_audit(struct deployment *d, const struct rollback_doc *doc, const struct rollback_effect *e,
                      const struct queued *q, bool intended);
void deployment_say_change(struct deployment *d, const struct rollback_doc *was, const struct rollback_doc *now);
void deployment_resettle_metrics(struct rollback_room *r);

/* rollback_cmd.c */
void cmd_rollback(struct service *s, const void *message, const struct bus_msg *m);
void cmd_rollback_holder(struct service *s, const void *message, const struct bus_msg *m);
void cmd_rollback_answer(struct deployment *d, const struct queued *q, const struct rollback_effect *e);
void cmd_rollback_progress(
    struct deployment *d); /* the document has changed: whoever waits for PREPARE may be told */
void cmd_rollback_not_started(struct deployment *d, const char *why);
void cmd_rollback_on_limit(void *ctx);
#define ROLLBACK_HOLDER_CMD                                                                                          \
    SUBJECT_CMD "rollback.leader." /* to all replicas: whoever acts for the deployment answers */

#endif
