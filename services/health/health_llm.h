/* health_llm.h - what an LLM API answered to a completion of one token: read and judged. Pure but for jansson.
 *
 * Three APIs: OpenAI-compatible, Anthropic, Ollama. The body comes in pieces of any size: as a stream of events (server-sent events, or a
 * JSON object per line) or as one object; which of them it is, the content type says. Nothing that comes can do more than make the
 * probe fail. */
#ifndef REDOUBT_HEALTH_LLM_H
#define REDOUBT_HEALTH_LLM_H

#include "health/health.h"

#define HEALTH_LLM_EVENT_MAX 16384 /* bytes of one event */
#define HEALTH_LLM_BODY_MAX  262144

/* What an API has shown to want, one bit each; only OpenAI-compatible ones differ so. */
enum {
    HEALTH_LLM_NEW_LIMIT = 1, /* `max_completion_tokens` instead of `max_tokens` */
    HEALTH_LLM_NO_USAGE = 2,  /* no `stream_options` */
    HEALTH_LLM_MORE = 4,      /* one token is too few for it */
};

struct health_llm_api;
/* api: enum set_llm_api. */
const struct health_llm_api *health_llm_api(int api);
const char *health_llm_path(const struct health_llm_api *a); /* below the base URL: "/chat/completions" */
/* The header that carries the key, up to the key itself: "Authorization: Bearer ". */
const char *health_llm_auth(const struct health_llm_api *a);
const char *health_llm_accept(const struct health_llm_api *a, bool stream); /* a whole header */
const char *health_llm_version(const struct health_llm_api *a);             /* a whole header; NULL = none */
/* The request's body, malloc'ed; NULL if memory is out. */
char *health_llm_request(const struct health_llm_api *a, const char *model, bool stream, unsigned wants);

struct health_llm {
    const struct health_llm_api *api;
    const char *secret; /* taken out of what servers say; NULL or "" = none. Lives as long as this */
    char buf[HEALTH_LLM_EVENT_MAX];
    size_t event;                              /* bytes of the event so far, at the start of buf */
    size_t line;                               /* bytes of the line so far, after them */
    bool has_data;                             /* the event has a line of data */
    bool too_long;                             /* the line, so far */
    bool started;                              /* the answer's head came (Anthropic) */
    bool spoke;                                /* a token came */
    bool done;                                 /* the proper end came */
    bool finished;                             /* the model said why it stopped */
    bool refused;                              /* by the model or a filter */
    uint32_t events;                           /* that were as they should be */
    int64_t first_ms;                          /* the first token; -1 = none yet */
    int64_t last_ms;                           /* the last piece */
    uint32_t prompt_tokens, completion_tokens; /* as the API says; 0 = not said */
    int fault; /* enum health_fault: the first thing that was wrong; NONE = nothing yet */
    char why[HEALTH_DETAIL_MAX];
};
void health_llm_init(struct health_llm *x, const struct health_llm_api *a, const char *secret);
/* A piece of the body, and when it came. */
void health_llm_feed(struct health_llm *x, const char *data, size_t len, int64_t at_ms);

enum health_llm_how {
    HEALTH_LLM_WHOLE,   /* the answer has its end */
    HEALTH_LLM_CUT,     /* the connection ended in the middle */
    HEALTH_LLM_STALLED, /* no end within the time-out */
    HEALTH_LLM_LARGE,   /* more than HEALTH_LLM_BODY_MAX */
};
struct health_llm_end {
    enum health_llm_how how;
    int status;
    const char *content_type; /* "" = none */
    const char *body;         /* as far as it came */
    size_t len;
};
/* Judges it all: sets fault, status, first token, tokens and detail of r. A stream that stalled after its proper end is well; then the
 * total time is set, too. */
void health_llm_judge(struct health_llm *x, const struct health_llm_end *e, struct health_result *r);
/* What the API is found to want besides `wants`: it refused nothing but the form of the question. 0 = nothing new. */
unsigned health_llm_learn(const struct health_llm_api *a, const struct health_llm_end *e, unsigned wants);
/* True if the API refused the form of the question: what was learned of it may no longer hold. */
bool health_llm_form_refused(const struct health_llm_end *e);

/* In millionths of a dollar, rounded up; prices per million tokens. Never wraps. */
uint32_t health_llm_cost(uint32_t prompt_tokens, uint32_t completion_tokens, int64_t price_input,
                         int64_t price_output);
/* `text` with "***" for every `secret` in it (NULL or "" = none), cut to fit: a secret is never cut in two, and so never half told. */
void health_llm_mask(char *out, size_t size, const char *text, const char *secret);

/* What the probes of a target have used since the start. */
struct health_spent {
    uint64_t prompt_tokens, completion_tokens, cost_microusd;
};
void health_llm_spent_text(const struct health_spent *s, char *buf, size_t size);

#endif
