/* sim_http.h - HTTP for simulators: requests come whole, and are answered, delayed, held for ever or cut. Private to sim_*.c.
 *
 * libmicrohttpd without a thread of its own: its epoll descriptor is watched by the simulator's loop. */
#ifndef REDOUBT_CLI_SIM_HTTP_H
#define REDOUBT_CLI_SIM_HTTP_H

#include "cli/sim_core.h"

struct sim_request {
    struct sim *sim;
    struct MHD_Connection *connection;
    const char *method, *path;
    char *body; /* zero-terminated */
    size_t len;
    json_t *json;     /* the body, NULL if it is not JSON */
    const char *mode; /* what this request is to meet */
    /* the server's */
    struct sim_http *http;
    struct sim_request *prev, *next;
    bool seen, whole, too_large, held, let_go, waited;
    int64_t due_ms; /* while held */
};
/* A header's value, NULL if absent; case does not matter. */
const char *sim_header(const struct sim_request *r, const char *name);

/* Answers, for `serve` of a kind to return: how MHD took them. */
enum MHD_Result sim_answer(struct sim_request *r, unsigned status, const char *content_type, const char *body,
                           const char *retry_after);
/* Takes the reference. */
enum MHD_Result sim_answer_json(struct sim_request *r, unsigned status, json_t *body);
/* After the last piece: the answer ends; the connection does instead; nothing comes any more, until the mode is another one. */
enum sim_end { SIM_END_WELL, SIM_END_CUT, SIM_END_STALL };
/* `pieces` (NULL-terminated, copied) as they are, one write each. `size` is what Content-Length promises; 0 = chunked. */
enum MHD_Result sim_answer_pieces(struct sim_request *r, const char *content_type, const char *const *pieces,
                                  uint64_t size, enum sim_end end);
/* The modes that all HTTP simulators know: 401 404 429 500 503 cut schema garbage huge wrong-type. False if the mode is none of them. */
bool sim_fail(struct sim_request *r, enum MHD_Result *ret);

struct sim_http *sim_http_open(struct sim *s, int fd, bool control_only);
void sim_http_close(struct sim_http *h); /* NULL is fine */
/* For struct sim_kind. */
int sim_http_serve(struct sim *s, int fd);
void sim_http_stop(struct sim *s);
void sim_http_mode_changed(struct sim *s);

/* Answers later: `serve` returns what this returns, and is called again after ms, with `waited` set. */
enum MHD_Result sim_wait(struct sim_request *r, int64_t ms);
/* No new connections; requests whose answer is not out. */
void sim_http_quiesce(struct sim *s);
unsigned sim_http_in_hand(const struct sim *s);

#define SIM_HTTP_MODES                                                                                               \
    {"refuse", "the port is closed: connection refused"}, {"hang", "takes the request and never answers"},           \
        {"slow", "answers well, after slow-ms"}, {"429", "429 with Retry-After"}, {"500", "500"}, {"503", "503"},    \
        {"401", "401"}, {"404", "404"}, {"cut", "the connection ends in the middle of the answer"},                  \
        {"schema", "200 with JSON of another schema"}, {"garbage", "200 with something that is not JSON"},           \
        {"huge", "200 with 8 MiB"}, {"wrong-type", "200 with an HTML page"},

#endif
