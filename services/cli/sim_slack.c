/* sim_slack.c - Slack's incoming webhooks: takes messages with `text`, refuses in Slack's own words. */
#include "cli/sim.h"
#include "cli/sim_http.h"
#include <stdio.h>
#include <string.h>

static const struct sim_mode modes[] = {{"ok", "answers well"}, SIM_HTTP_MODES{NULL, NULL}};

static enum MHD_Result say(struct sim_request *r, unsigned status, const char *text)
{
    return sim_answer(r, status, "text/html", text, NULL);
}

static enum MHD_Result serve(struct sim_request *r)
{
    static const struct {
        const char *mode;
        unsigned status;
        const char *text;
    } own[] = {
        {"401", 401, "invalid_token"},
        {"404", 404, "no_service"},
        {"500", 500, "rollup_error"},
        {"503", 503, "service_unavailable"},
    };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(r->mode, own[i].mode) == 0)
            return say(r, own[i].status, own[i].text);
    if (strcmp(r->mode, "429") == 0) {
        char seconds[24];
        snprintf(seconds, sizeof seconds, "%lld", (long long)r->sim->retry_after_s);
        return sim_answer(r, 429, "text/html", "rate_limited", seconds);
    }
    enum MHD_Result ret;
    if (sim_fail(r, &ret))
        return ret;
    if (strcmp(r->method, "POST") != 0)
        return say(r, 405, "method_not_allowed");
    if (!json_is_object(r->json))
        return say(r, 400, "invalid_payload");
    const json_t *text = json_object_get(r->json, "text"), *blocks = json_object_get(r->json, "blocks");
    if (!json_is_string(text) || json_string_length(text) == 0)
        return say(r, 400, "no_text");
    if (json_string_length(text) > 40000)
        return say(r, 400, "msg_too_long");
    if (blocks && (!json_is_array(blocks) || json_array_size(blocks) > 50))
        return say(r, 400, "invalid_blocks");
    return say(r, 200, "ok");
}

static const struct sim_kind kind = {
    .name = "slack",
    .about = "Slack's incoming webhooks",
    .modes = modes,
    .open = sim_http_serve,
    .close = sim_http_stop,
    .mode_changed = sim_http_mode_changed,
    .http_control = true,
    .serve = serve,
};

int sim_slack_main(int argc, char **argv)
{
    return sim_run(&kind, argc, argv);
}
