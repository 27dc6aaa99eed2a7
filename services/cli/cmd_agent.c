/* cmd_agent.c - redoubt freeze, unfreeze and agent show. */
#include "cli/cmd.h"
#include "cli/present.h"
#include "cli/status_view.h"
#include <string.h>

int cmd_agent_order(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_order *o = opts;
    if (!o->by || !o->reason)
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    PB(AgentCommand) m = REDOUBT__V1__AGENT_COMMAND__INIT;
    m.agent = argv[0];
    m.by = (char *)o->by;
    m.reason = (char *)o->reason;
    m.without_selftest = o->without_selftest;
    struct cli_link link;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = strcmp(c->row->path, "freeze") == 0 ? cli_insist(&link, "fallback", c->row->path, &m)
                                                   : cli_order(&link, "fallback", c->row->path, &m);
    cli_link_close(&link);
    return code;
}

int cmd_agent_show(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_show *o = opts;
    const char *agent = argc ? argv[0] : NULL;
    struct cli_link link;
    struct present p = {0};
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = present_open(&p, &link, PRESENT_AGENTS)) == CLI_OK) {
        struct status_model *m = &p.model, one = {0};
        if (!agent)
            present_add_settings(&p);
        present_ask_agents(&p);
        for (size_t i = 0; agent && i < m->n_agents; i++)
            if (strcmp(m->agents[i].name, agent) == 0)
                one = (struct status_model){.agents = &m->agents[i], .n_agents = 1};
        if (agent && one.n_agents == 0) {
            code =
                cli_fail(c, CLI_REFUSED, "nothing is known of an agent %s; `redoubt agent show` lists them", agent);
        } else if (o->json) {
            json_t *j = agent ? status_agent_json(one.agents[0].state) : json_array();
            for (size_t i = 0; !agent && i < m->n_agents; i++)
                json_array_append_new(j, status_agent_json(m->agents[i].state));
            json_dumpf(j, stdout, JSON_COMPACT);
            putchar('\n');
            json_decref(j);
        } else {
            status_print_agents(agent ? &one : m, &c->out, clock_wall_ms());
        }
    }
    present_close(&p);
    cli_link_close(&link);
    return code;
}
