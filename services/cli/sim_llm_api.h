/* sim_llm_api.h - one LLM API of the simulator behind a small table of functions. Private to sim_llm*.c. */
#ifndef REDOUBT_CLI_SIM_LLM_API_H
#define REDOUBT_CLI_SIM_LLM_API_H

#include "cli/sim_http.h"

#define SIM_LLM_WORDS         3
#define SIM_LLM_PROMPT_TOKENS 8
#define SIM_LLM_PIECES_MAX    16
extern const char *const sim_llm_words[SIM_LLM_WORDS];

enum sim_llm_error {
    SIM_LLM_WRONG, /* the request */
    SIM_LLM_KEY,
    SIM_LLM_FORBIDDEN,
    SIM_LLM_NOT_FOUND,
    SIM_LLM_RATE,
    SIM_LLM_QUOTA,
    SIM_LLM_SERVER,
    SIM_LLM_BUSY,
    SIM_LLM_ERRORS
};
struct sim_llm_answer {
    const char *model;
    enum { SIM_LLM_SPEAKS, SIM_LLM_REFUSES, SIM_LLM_SILENT } kind;
    bool usage; /* tokens are told */
};
struct sim_llm_stream {
    char *pieces[SIM_LLM_PIECES_MAX];
    size_t n;
    size_t begun; /* so many pieces until the first token is out */
    size_t ended; /* so many before the proper end */
    bool failed;  /* memory is out */
};
struct sim_llm_api {
    const char *paths[2];
    const char *key_header, *key_prefix;
    const char *stream_type;
    const char *error_event; /* name of the event that is an error; NULL = none */
    bool lines;              /* a stream is a JSON object per line, not server-sent events */
    bool streams_by_itself;  /* without being asked to */
    bool asks_usage;         /* a stream tells its tokens only if asked to */
    unsigned quota_status;
    json_t *(*error)(enum sim_llm_error kind, const char *text);
    const char *(*wrong)(const struct sim_request *r); /* why the request is refused; NULL = it is right */
    json_t *(*whole)(const struct sim_llm_answer *w);
    void (*stream)(struct sim_llm_stream *s, const struct sim_llm_answer *w); /* fills it, `begun` > 0 */
};
extern const struct sim_llm_api sim_llm_openai, sim_llm_anthropic, sim_llm_ollama;

/* One event (name may be NULL) or line; takes the reference. */
void sim_llm_add(struct sim_llm_stream *s, const char *name, json_t *j, bool line);
void sim_llm_add_text(struct sim_llm_stream *s, char *piece); /* takes the memory; NULL = it is out */

#endif
