/* reports_impl.h - the insides of the reports' room: jobs, one after the other, each with all that its worker thread needs. */
#ifndef REDOUBT_CONTINUITY_REPORTS_IMPL_H
#define REDOUBT_CONTINUITY_REPORTS_IMPL_H

#include "continuity/continuity_impl.h"
#include "continuity/report.h"
#include "continuity/report_month.h"
#include <uv.h>

#define REPORTS_RECEIPTS_MAX 2000 /* that are remembered */
#define REPORTS_DIRS_MAX     16
#define REPORTS_AFTER_MS     120000 /* records so long after the end belong to it, too */
#define REPORTS_BEFORE_MS    120000

enum reports_kind { REPORTS_INCIDENT, REPORTS_MONTH };
/* What is to be written. */
struct reports_due {
    enum reports_kind kind;
    char id[INCIDENT_ID]; /* of an incident */
    uint32_t month;
    char reply[ORDER_REPLY]; /* who asked; "" = nobody */
    bool quiet;              /* written again, as more is known: the room is not told */
    bool only_trail;         /* it stands without proofs: again only if the trail can be read now */
    unsigned tries;
    int64_t at_mono_ms;
    struct reports_due *next;
};
struct reports_job;
struct reports {
    struct continuity *room;
    struct reports_due *due;
    struct reports_job *running; /* NULL = none */
    PB(DeliveryReceipt) * receipts[REPORTS_RECEIPTS_MAX];
    size_t n_receipts, next_receipt; /* a ring */
    int64_t month_look_mono_ms;
    uint64_t written, failed;
};
/* Lives until its work is done, also when the room is closed before. */
struct reports_job {
    struct reports *r; /* NULL = the room is closed: nobody waits for it */
    struct service *s;
    struct reports_due due;
    uv_work_t work;
    char dir[REPLICA_PATH + 64];
    int rc;
    struct err error;
    char said[400]; /* what came of it, for who asked */
    char leader[129];
    int64_t written_ms;
    /* an incident */
    PB(IncidentChanged) * doc;
    char **agents;
    size_t n_agents;
    char *dirs[REPORTS_DIRS_MAX], *second_dir;
    size_t n_dirs;
    struct report_function functions[32];
    char function_names[32][65];
    size_t n_functions;
    const PB(DeliveryReceipt) * *receipts; /* their copies, ours */
    size_t n_receipts;
    char key[INCIDENT_KEY];
    struct report_scope scope;
    struct report_trail trail;
    bool needs_bus; /* no trail can be read */
    int64_t over_ms;
    struct reports_bus *bus;
    /* a month */
    struct report_month month;
};

/* reports_job.c: false with text in e: it cannot even be begun. Ends by reports_ended(), never from inside. */
bool reports_begin(struct reports *r, const struct reports_due *due, struct err *e);
void reports_job_free(struct reports_job *j);
/* reports.c: on the loop; frees j. */
void reports_ended(struct reports_job *j);
void reports_enqueue(struct reports *r, const struct reports_due *due);
const char *reports_dir(const struct reports *r, char *buf, size_t size);

/* reports_month.c */
bool reports_month_gather(struct reports *r, struct reports_job *j, struct err *e);
void reports_month_work(struct reports_job *j);
void reports_month_name(uint32_t month, char buf[static 32]); /* of its files */

/* reports_bus.c: the records of the scope from the stream of records, into j->trail; then(ctx) once. NULL: memory is out. */
struct reports_bus *reports_bus_open(struct reports_job *j, loop_cb then, void *ctx);
void reports_bus_close(struct reports_bus *b); /* NULL is fine; then() does not come any more */

#endif
