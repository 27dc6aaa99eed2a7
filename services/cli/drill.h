/* drill.h - runs a story on a private stack: a table of steps, each an act and the marks that must be seen after it, within a
 * limit. A new drill is a new table; the runner knows nothing of LLMs or agents. */
#ifndef REDOUBT_CLI_DRILL_H
#define REDOUBT_CLI_DRILL_H

#include "cli/cli.h"
#include "cli/drill_ledger.h"
#include "cli/drill_stack.h"
#include "cli/drill_town.h"
#include "common/bus.h"
#include "common/http.h"
#include "common/loop.h"
#include "common/wire.h"
#include <jansson.h>

#define DRILL_MARKS_MAX 10
#define DRILL_LOGS_MAX  4
#define DRILL_WATCH_MAX 4 /* pages that are looked at over HTTP */

struct drill;
/* Something that must be seen. Exactly one of `message` and `look` is set. */
struct drill_mark {
    const char *key;  /* "detected"; with the step's key it names the moment for figures and JSON */
    const char *text; /* what is waited for, for people */
    /* Is it this message of the suite? Sees each one that came since the step began, until it says yes; *detail is for people. */
    bool (*message)(struct drill *d, const struct drill_mark *m, const void *message, char *detail, size_t size);
    /* Is it so now? Asked every DRILL_TICK_MS. */
    bool (*look)(struct drill *d, const struct drill_mark *m, char *detail, size_t size);
    const char *who; /* for the functions above: target, agent, channel, process, ... */
    const char *llm; /* "" = none must be used, NULL = any */
    const char *has; /* a text that must be in it; NULL = any */
    int what;        /* a state, posture, status, ... */
    int step;        /* of a directive; 0 = any */
    int percent;     /* share of calls or work that a directive allows; 0 = any */
    bool resolved;   /* of an alert: it is over */
    /* Key of an earlier mark of the step: only what comes after it counts. NULL = anything since the step began. */
    const char *after;
};
struct drill_step {
    const char *key;
    const char *text;                                                       /* what is done, for people */
    int (*act)(struct drill *d, const struct drill_step *s, struct err *e); /* NULL = only wait */
    struct drill_mark marks[DRILL_MARKS_MAX];
    int64_t limit_ms;
    const char *logs[DRILL_LOGS_MAX]; /* whose ends are shown if something is missing */
    bool failure;                     /* the act breaks something: shown in red */
    bool ends;                        /* part of the end of the stack: left out when it is kept */
    const char *who;                  /* for act: names of processes, ... */
    const char *verb;                 /* for act: a mode, a command */
    int what;                         /* for act: a signal, ... */
};
/* A time between two moments: "step" (its act) or "step.mark". The first DRILL_MEASURES of every story are, in this order:
 * detection, fallback, ack, first alert, failback. */
#define DRILL_MEASURES 5
struct drill_figure {
    const char *key;
    const char *text;
    const char *from, *to;
};
struct drill_story {
    const char *name;
    const char *title;
    const struct drill_step *steps;
    size_t n_steps;
    const struct drill_figure *figures;
    size_t n_figures;
    int64_t limit_ms; /* of the whole */
    /* Plays on a suite that runs already: there is no stack, and nothing is known of answers that go to their askers alone. */
    bool running;
    const struct drill_plan *plan; /* of the private suite that it plays on; NULL = it has more to prepare */
    /* Without a plan: defines the processes and writes their settings; d->stack is open. 0 or -1. */
    int (*prepare)(struct drill *d, struct err *e);
    void (*leave)(struct drill *d); /* however it ended: puts back what was changed. May be NULL */
    /* For people who keep the stack: what else can be looked at. May be NULL. */
    void (*hints)(struct drill *d);
};

/* A page of a simulator, looked at again and again; `json` is the last good answer. */
struct drill_page {
    struct drill *drill;
    const char *name;
    char url[256];
    json_t *json;
    bool asking;
    int64_t next_ms;
};
struct drill_event {
    int64_t at_ms; /* monotonic: when it came to us */
    void *message;
};
struct drill_moment {
    bool seen, told;
    int64_t at_ms;
    char detail[512];
};
/* What marks and acts remember from one to the next. */
struct drill_seen {
    uint64_t epoch;        /* of the directive that was waited for last */
    uint64_t frozen_epoch; /* of the last one that froze the agent */
    int posture;           /* of the newest one that came at all, likewise the next */
    uint64_t newest_epoch, acked_epoch;
    int64_t fenced_ms;   /* wall clock: every guard has confirmed the freeze; 0 = not yet */
    char alert_id[128];  /* of the alert that was waited for last, ... */
    char alert_key[256]; /* ... and of its problem: others may have told of that first */
    bool answered;       /* the last request was */
    int status;          /* of the answer; -1 = there was none */
    int refusal;         /* of the guard's answer */
    char answer[1100];
    size_t executed; /* actions at the backend when the step began */
    unsigned asked;  /* actions that the drill itself has asked for */
};
struct drill {
    struct cli *c;
    const struct drill_story *story;
    struct drill_stack stack;
    struct drill_town town;
    struct drill_seen seen;
    struct drill_ledger ledger;
    struct loop loop;
    struct bus *bus;
    struct http *http;
    char nats_url[1100];
    bool bus_is_up, interrupted;
    struct drill_page pages[DRILL_WATCH_MAX];
    size_t n_pages;
    struct drill_event *events; /* of the present step */
    size_t n_events, cap_events;
    struct drill_moment *acts;                     /* one per step */
    struct drill_moment (*marks)[DRILL_MARKS_MAX]; /* DRILL_MARKS_MAX per step */
    size_t step;                                   /* the present one */
    int64_t began_ms, ended_ms;
    bool failed;
    char why[1024];
};

/* Plays the story. Returns an exit code. json: the file for its figures, "-" = stdout, with the timeline on stderr; NULL = where
 * drills are kept. */
int drill_run(struct cli *c, const struct drill_story *story, bool keep, const char *bin_dir, const char *json);
/* The same for a story on a running suite, whose bus is at `url`. json NULL = the figures are only told. */
int drill_run_at(struct cli *c, const struct drill_story *story, const char *url, const char *json);
/* Something that cannot be mended has been seen: the drill fails with this text. The first one counts. */
__attribute__((format(printf, 2, 3))) void drill_fail(struct drill *d, const char *fmt, ...);

/* A message of the suite has come; it is the drill's from now on. */
void drill_take(struct drill *d, void *message);

/* ---- drill_result.c ---- */

void drill_show_figures(struct drill *d);
/* CLI_OK or CLI_FAILED, after saying why. */
int drill_store_figures(struct drill *d, const char *json);

/* ---- pages of simulators ---- */

/* Looks at a page from now on; read it by drill_page(). */
void drill_watch_page(struct drill *d, const char *name, const char *url);
const json_t *drill_page(const struct drill *d, const char *name); /* NULL = no answer yet */
/* Actions that the page of the simulated backend tells of; one that keeps no list of them has its ledger. */
size_t drill_executed(const struct drill *d);

#endif
