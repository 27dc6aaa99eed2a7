/* docker_api.h - calls of a Docker Engine over its unix socket; what goes wrong comes as words that say what to do. */
#ifndef REDOUBT_ROLLBACK_DOCKER_API_H
#define REDOUBT_ROLLBACK_DOCKER_API_H

#include "common/http.h"
#include <jansson.h>

#define DOCKER_PATH 1024

struct docker_request {
    const char *method; /* NULL = GET */
    const char *path;   /* "/containers/json?all=1", without the API's version */
    const json_t *body; /* may be NULL */
    int64_t timeout_ms; /* 0 = 20 s */
};
struct docker_answer {  /* valid only inside the callback */
    bool ok;            /* 2xx or 304 */
    int status;         /* 0 = there was no answer */
    bool lasting;       /* wrong settings or rights: it will not become better by itself */
    const char *error;  /* what, where, what to do; "" if ok */
    const json_t *json; /* NULL if the body is none */
    const char *body;
    size_t len;
    const struct http_call *call; /* for http_header(); NULL if there was no answer */
};
typedef void (*docker_cb)(void *ctx, const struct docker_answer *a);

struct docker_api;
/* `socket` is a path, with or without unix://. Without I/O; http may be NULL if no call is made. NULL only if memory is out. */
struct docker_api *docker_api_open(struct http *http, const char *socket);
/* Callbacks do not come any more. */
void docker_api_close(struct docker_api *a);
/* Everything in r is copied. cb comes once, later. The API's version is agreed upon before the first call, and anew when the engine was away. */
void docker_api_call(struct docker_api *a, const struct docker_request *r, docker_cb cb, void *ctx);
/* Only for words; "" before the first call. */
const char *docker_api_version(const struct docker_api *a);
const char *docker_api_socket(const struct docker_api *a);

/* The text percent-encoded, so that it is one value of a query, or one piece of a path. Returns buf. */
const char *docker_escape(const char *text, char *buf, size_t size);
/* Why nobody can be reached at this path, in words; true if that is lasting. */
bool docker_socket_problem(const char *path, char *why, size_t size);
/* The highest version of the API that both sides speak, from the engine's header: "1.41" -> 41. 0 = none. */
int docker_api_agree(const char *engine);

/* A member of an object, as text ("" if it is none); the value stays the document's. */
const char *docker_text(const json_t *object, const char *key);

#endif
