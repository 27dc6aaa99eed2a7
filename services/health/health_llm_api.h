/* health_llm_api.h - one LLM API behind a small table of functions, and what their files share. Private to health_llm*.c. */
#ifndef REDOUBT_HEALTH_LLM_API_H
#define REDOUBT_HEALTH_LLM_API_H

#include "health/health_llm.h"
#include <jansson.h>

struct health_llm_api {
    const char *path, *auth, *version;
    const char *stream_type; /* content type of a stream */
    const char *end_word;    /* data that ends a stream and is no JSON; NULL = none */
    const char *end_name;    /* what ends a stream, for people */
    bool lines;              /* a stream is a JSON object per line, not server-sent events */
    json_t *(*request)(const char *model, bool stream, unsigned wants);
    /* One object of a stream, one whole answer: not an error, perhaps not even an object. */
    void (*event)(struct health_llm *x, const json_t *j, int64_t at_ms);
    void (*whole)(struct health_llm *x, const json_t *j);
    /* What an object says of tokens used, wherever it says so. */
    void (*usage)(struct health_llm *x, const json_t *j);
    unsigned (*learn)(const struct health_llm_end *e, unsigned wants); /* NULL = it has no variants */
};
extern const struct health_llm_api health_llm_openai, health_llm_anthropic, health_llm_ollama;

/* The first thing that is wrong counts. */
__attribute__((format(printf, 3, 4))) void health_llm_wrong(struct health_llm *x, int fault, const char *fmt, ...);
/* "" if it is no text. */
const char *health_llm_text(const json_t *object, const char *key);
void health_llm_token(struct health_llm *x, int64_t at_ms);
/* Sets *tokens if the number is one. */
void health_llm_count(const json_t *number, uint32_t *tokens);

#endif
