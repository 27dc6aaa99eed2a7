/* health_llm.h - what an OpenAI-compatible API answered to a completion of one token: read and judged. Pure but for jansson.
 *
 * The body comes in pieces of any size. As `text/event-stream` it is a row of events that ends with [DONE]; as
 * `application/json` one object. Nothing that comes can do more than make the probe fail. */
#ifndef REDOUBT_HEALTH_LLM_H
#define REDOUBT_HEALTH_LLM_H

#include "health/health.h"

#define HEALTH_LLM_LINE_MAX 16384 /* one event */
#define HEALTH_LLM_BODY_MAX 262144

struct health_llm {
    char line[HEALTH_LLM_LINE_MAX];
    size_t len;
    bool too_long;    /* the line, so far */
    bool done;        /* [DONE] came */
    bool finished;    /* a finish_reason came */
    bool refused;     /* by the model or a filter */
    uint32_t events;  /* that were as they should be */
    int64_t first_ms; /* the first token; -1 = none yet */
    int fault;        /* enum health_fault: the first thing that was wrong; NONE = nothing yet */
    char why[HEALTH_DETAIL_MAX];
};
void health_llm_init(struct health_llm *x);
/* A piece of the body, and when it came. */
void health_llm_feed(struct health_llm *x, const char *data, size_t len, int64_t at_ms);

struct health_llm_end {
    bool cut; /* the connection ended in the middle */
    int status;
    const char *content_type; /* "" = none */
    const char *body;         /* whole */
    size_t len;
};
/* Judges the whole: sets fault, status, first token and detail of r. */
void health_llm_judge(struct health_llm *x, const struct health_llm_end *e, struct health_result *r);
/* True if the API refused only the name of the parameter that limits the tokens: it wants the newer one. */
bool health_llm_wants_new_limit(const struct health_llm_end *e);
/* The request's body, malloc'ed; NULL if memory is out. */
char *health_llm_request(const char *model, bool new_limit);

#endif
