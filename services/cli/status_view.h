/* status_view.h - the status as tables for people and as JSON for programs. */
#ifndef REDOUBT_CLI_STATUS_VIEW_H
#define REDOUBT_CLI_STATUS_VIEW_H

#include "cli/status_model.h"
#include "cli/term.h"

void status_print(const struct status_model *s, const struct term *t, int64_t now_unix_ms);
json_t *status_json(const struct status_model *s);

void status_print_targets(const struct status_model *s, const struct term *t, int64_t now_unix_ms);
void status_print_agents(const struct status_model *s, const struct term *t, int64_t now_unix_ms);
/* A message as a JSON value; null for NULL. */
json_t *status_message_json(const void *message);
json_t *status_agent_json(const PB(AgentState) * a);

#endif
