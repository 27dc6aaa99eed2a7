/* sim.h - simulators: stand-ins for an LLM API, a backend, a Slack webhook, a mail server and a network link that speak the
 * real protocols and can be told to fail in every way. Each function is a complete sub-command with a --help of its own. */
#ifndef REDOUBT_CLI_SIM_H
#define REDOUBT_CLI_SIM_H

/* argv[0] is the sub-command's name ("llm"); the rest are its options. Each prints `listening 127.0.0.1:PORT` (and `control
 * 127.0.0.1:PORT`) on stdout once it serves, runs until SIGTERM or SIGINT, and returns an exit code: 0 ended as asked,
 * 1 failed, 2 wrong usage. They install signal handlers and own the process while they run. */
int sim_llm_main(int argc, char **argv);
int sim_backend_main(int argc, char **argv);
int sim_worker_main(int argc, char **argv);
int sim_slack_main(int argc, char **argv);
int sim_hook_main(int argc, char **argv);
int sim_smtp_main(int argc, char **argv);
int sim_link_main(int argc, char **argv);

#endif
