/* cli_rows_continuity.h - the rows of `redoubt incident` and `redoubt continuity`, for the table of cli_rows.c alone. */
#ifndef REDOUBT_CLI_ROWS_CONTINUITY_H
#define REDOUBT_CLI_ROWS_CONTINUITY_H

#include "cli/cli_opts_continuity.h"

#define CO_OPTS(rows, type) .opts = rows, .n_opts = sizeof(rows) / sizeof((rows)[0]), .opts_size = sizeof(struct type)
#define INCIDENT_IS                                                                                                  \
    "ID is an incident's, or the beginning of it that no other has, or the key of one that is open "                 \
    "(`llm.openai`)."

#define INCIDENT_ROWS                                                                                                \
    {.path = "incident",                                                                                             \
     .summary = "what has happened, how far it is, which clocks run; notes, owners, decisions",                      \
     .text = "An incident opens by itself at first evidence, and passes respond, assess, recover, validate and "     \
             "learn by\nwhat is seen. People add what they know, and may go on or close it, with a reason."},        \
        {.path = "incident list",                                                                                    \
         .summary = "the incidents that are open, newest first, each with the clock nearest to its limit",           \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_incident_list,                                                                                   \
         .defaults = &incident_list_defaults,                                                                        \
         CO_OPTS(incident_list_opts, opts_incident)},                                                                \
        {.path = "incident show",                                                                                    \
         .args = "ID",                                                                                               \
         .min_args = 1,                                                                                              \
         .max_args = 1,                                                                                              \
         .summary = "one in full: clocks against their limits, phases, agents, notes, what it waits for",            \
         .text = INCIDENT_IS,                                                                                        \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_incident_show,                                                                                   \
         CO_OPTS(incident_show_opts, opts_incident)},                                                                \
        {.path = "incident note",                                                                                    \
         .args = "ID TEXT",                                                                                          \
         .min_args = 2,                                                                                              \
         .max_args = 2,                                                                                              \
         .summary = "write down what is known, was decided or learned; it is in the report",                         \
         .text = INCIDENT_IS,                                                                                        \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_incident_note,                                                                                   \
         CO_OPTS(incident_note_opts, opts_incident)},                                                                \
        {.path = "incident assign",                                                                                  \
         .args = "ID WHO",                                                                                           \
         .min_args = 2,                                                                                              \
         .max_args = 2,                                                                                              \
         .summary = "say who owns it; - is nobody",                                                                  \
         .text = INCIDENT_IS,                                                                                        \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_incident_order,                                                                                  \
         CO_OPTS(incident_order_opts, opts_incident)},                                                               \
        {.path = "incident advance",                                                                                 \
         .args = "ID",                                                                                               \
         .min_args = 1,                                                                                              \
         .max_args = 1,                                                                                              \
         .summary = "go on to the next phase although its gate is shut",                                             \
         .text = INCIDENT_IS " Clocks stop\nonly with validation.",                                                  \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_incident_order,                                                                                  \
         CO_OPTS(incident_advance_opts, opts_incident)},                                                             \
        {.path = "incident close",                                                                                   \
         .args = "ID",                                                                                               \
         .min_args = 1,                                                                                              \
         .max_args = 1,                                                                                              \
         .summary = "end it; its report stays",                                                                      \
         .text = INCIDENT_IS,                                                                                        \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_incident_order,                                                                                  \
         CO_OPTS(incident_order_opts, opts_incident)},                                                               \
    {                                                                                                                \
        .path = "incident open", .summary = "declare one: for what no probe sees", .connects = true,                 \
        .answer_ms = 10000, .run = cmd_incident_open, .defaults = &incident_open_defaults,                           \
        CO_OPTS(incident_open_opts, opts_incident)                                                                   \
    }

#define CONTINUITY_ROWS                                                                                              \
    INCIDENT_ROWS,                                                                                                   \
        {.path = "continuity", .summary = "objectives and what was shown of them; backups, drills, reports"},        \
        {.path = "continuity status",                                                                                \
         .summary = "each objective: target, estimate, demonstrated, verdict; fails if one is breached",             \
         .text = "DEMONSTRATED is what an incident, a drill or a test restore has shown (MAD, RTO), or how old the " \
                 "newest point\nis that is proven to be restorable (RPO). What was shown too long ago does not "     \
                 "count: UNKNOWN.",                                                                                  \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_continuity_status,                                                                               \
         CO_OPTS(continuity_status_opts, opts_continuity)},                                                          \
        {.path = "continuity backup",                                                                                \
         .args = "SOURCE",                                                                                           \
         .min_args = 1,                                                                                              \
         .max_args = 1,                                                                                              \
         .summary = "copy it now",                                                                                   \
         .connects = true,                                                                                           \
         .answer_ms = 60000,                                                                                         \
         .run = cmd_continuity_order,                                                                                \
         CO_OPTS(continuity_force_opts, opts_continuity)},                                                           \
        {.path = "continuity test",                                                                                  \
         .args = "SOURCE",                                                                                           \
         .min_args = 1,                                                                                              \
         .max_args = 1,                                                                                              \
         .summary = "restore its newest copy into a scratch directory now, compare and time it",                     \
         .connects = true,                                                                                           \
         .answer_ms = 60000,                                                                                         \
         .run = cmd_continuity_order,                                                                                \
         CO_OPTS(continuity_order_opts, opts_continuity)},                                                           \
        {.path = "continuity drill",                                                                                 \
         .args = "NAME",                                                                                             \
         .min_args = 1,                                                                                              \
         .max_args = 1,                                                                                              \
         .summary = "play a planned drill now",                                                                      \
         .text = "NAME is one of `continuity.drills` of the settings. Refused while an incident is open.",           \
         .connects = true,                                                                                           \
         .answer_ms = 60000,                                                                                         \
         .run = cmd_continuity_order,                                                                                \
         CO_OPTS(continuity_force_opts, opts_continuity)},                                                           \
        {.path = "continuity availability",                                                                          \
         .args = "[MONTH]",                                                                                          \
         .max_args = 1,                                                                                              \
         .summary = "how long each agent was in which condition in a month",                                         \
         .text = "MONTH as 2026-11 (default: the present one, so far).",                                             \
         .connects = true,                                                                                           \
         .answer_ms = 10000,                                                                                         \
         .run = cmd_continuity_availability,                                                                         \
         CO_OPTS(continuity_availability_opts, opts_continuity)},                                                    \
    {                                                                                                                \
        .path = "continuity report", .args = "INCIDENT|MONTH", .min_args = 1, .max_args = 1,                         \
        .summary = "write the report of an incident, or of a month, anew, and say where it is",                      \
        .text = "INCIDENT as for `redoubt incident show`; MONTH as 2026-11.", .connects = true, .answer_ms = 60000,  \
        .run = cmd_continuity_report, CO_OPTS(continuity_report_opts, opts_continuity)                               \
    }

#endif
