/* main.c - the operator's command. */
#include "cli/cli.h"

int main(int argc, char **argv)
{
    return cli_main(cli_rows, cli_rows_n, argc, argv);
}
