/* drill_llm_outage.h - a whole LLM outage, there and back, as a table of steps. */
#ifndef REDOUBT_CLI_DRILL_LLM_OUTAGE_H
#define REDOUBT_CLI_DRILL_LLM_OUTAGE_H

#include "cli/drill.h"

/* What the story remembers from one mark to the next. */
struct drill_llm_outage {
    uint64_t epoch;     /* of the directive that is waited for */
    char alert_id[128]; /* of the alert of the security fallback */
    char settings[DRILL_PATH * 2];
    int llm_ports[2], backend_port, slack_port, smtp_port;
};
extern const struct drill_story drill_llm_outage;

#endif
