/* SPDX-License-Identifier: GPL-2.0-or-later */
/* main.c - arrd: the command line, the loop, signals, readiness. */
#include "gateway/config.h"
#include "gateway/egress.h"
#include "gateway/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define DEFAULT_CONFIG "/etc/arrd/arrd.conf"

struct options {
	const char *config;
	bool check, foreground, cleanup;
};

static void usage(FILE *f)
{
	fputs("usage: arrd [-c FILE] [-f]      run the gateway; -f: in the foreground, log to stderr\n"
	      "       arrd [-c FILE] -t        check the configuration and exit\n"
	      "       arrd [-c FILE] --cleanup remove what a run left in the kernel (rules, routes, "
	      "connections)\n"
	      "       arrd --help-config       all options of the configuration\n"
	      "       arrd --version\n"
	      "FILE is " DEFAULT_CONFIG " unless given; its tunnels.d/ is looked for beside it.\n",
		f);
}

/* Returns -1 to go on, or an exit status. */
static int parse_options(int argc, char **argv, struct options *o)
{
	enum { HELP_CONFIG = 256, CLEANUP, VERSION };
	static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
		{"test", no_argument, NULL, 't'}, {"foreground", no_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'}, {"help-config", optional_argument, NULL, HELP_CONFIG},
		{"cleanup", no_argument, NULL, CLEANUP}, {"version", no_argument, NULL, VERSION},
		{NULL, 0, NULL, 0}};
	int c;

	*o = (struct options){.config = DEFAULT_CONFIG};
	while ((c = getopt_long(argc, argv, "c:tfh", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->config = optarg;
			break;
		case 't':
			o->check = true;
			break;
		case 'f':
			o->foreground = true;
			break;
		case CLEANUP:
			o->cleanup = true;
			break;
		case HELP_CONFIG:
			if (optarg && strcmp(optarg, "table") == 0)
				config_dump_table(stdout);
			else
				config_help(stdout);
			return EX_OK;
		case VERSION:
			puts("arrd " ARRD_VERSION);
			return EX_OK;
		case 'h':
			usage(stdout);
			return EX_OK;
		default:
			usage(stderr);
			return EX_USAGE;
		}
	}
	if (optind < argc) {
		usage(stderr);
		return EX_USAGE;
	}
	return -1;
}

/* ---- the background ---------------------------------------------------------------------------------- */

/* Forks; the parent waits until the child says that it runs, or ends. Returns the descriptor to say it by in
 * the child; does not return in the parent. From here on the log goes to the journal. */
static int go_background(void)
{
	int ready[2], journal;
	char stream[64];
	struct stat st;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		char c;
		ssize_t n;

		close(ready[1]);
		do
			n = read(ready[0], &c, 1);
		while (n < 0 && errno == EINTR);
		_exit(n == 1 ? EX_OK : EX_UNAVAILABLE);
	}
	close(ready[0]);
	if (setsid() < 0 || chdir("/") < 0)
		return -errno;
	journal = sd_journal_stream_fd("arrd", 6, 1);
	if (journal >= 0 && fstat(journal, &st) == 0) {
		snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
		setenv("JOURNAL_STREAM", stream, 1);
		dup2(journal, STDERR_FILENO);
		close(journal);
	}
	if (!freopen("/dev/null", "r", stdin) || !freopen("/dev/null", "w", stdout))
		return -errno;
	return ready[1];
}

/* ---- the loop ---------------------------------------------------------------------------------------- */

struct process {
	uv_loop_t loop;
	uv_signal_t hup, term, intr;
	uv_timer_t watchdog;
	struct gateway *gw;
};

static void on_stop(uv_signal_t *h, int signum)
{
	struct process *p = h->data;

	(void)signum;
	uv_stop(&p->loop);
}

static void on_hup(uv_signal_t *h, int signum)
{
	struct process *p = h->data;

	(void)signum;
	sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(uv_hrtime() / 1000));
	(void)gateway_reload(p->gw, NULL); /* logs what it did */
	sd_notify(0, "READY=1");
}

static void on_watchdog(uv_timer_t *h)
{
	(void)h;
	sd_notify(0, "WATCHDOG=1");
}

static void start_signals(struct process *p)
{
	uint64_t usec;

	p->hup.data = p->term.data = p->intr.data = p;
	uv_signal_init(&p->loop, &p->hup);
	uv_signal_init(&p->loop, &p->term);
	uv_signal_init(&p->loop, &p->intr);
	uv_timer_init(&p->loop, &p->watchdog);
	uv_signal_start(&p->hup, on_hup, SIGHUP);
	uv_signal_start(&p->term, on_stop, SIGTERM);
	uv_signal_start(&p->intr, on_stop, SIGINT);
	if (sd_watchdog_enabled(0, &usec) > 0)
		uv_timer_start(&p->watchdog, on_watchdog, 0, usec / 2000);
}

static void stop_signals(struct process *p)
{
	uv_close((uv_handle_t *)&p->hup, NULL);
	uv_close((uv_handle_t *)&p->term, NULL);
	uv_close((uv_handle_t *)&p->intr, NULL);
	uv_close((uv_handle_t *)&p->watchdog, NULL);
}

static int run(struct config *conf, struct log *log, int ready_fd)
{
	struct process p = {0};
	char err[512];
	bool failed;
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = uv_loop_init(&p.loop);
	if (r < 0) {
		log_error(log, "gateway", NULL, "%s", uv_strerror(r));
		config_free(conf);
		return EX_OSERR;
	}
	r = gateway_start(&p.gw, &p.loop, conf, log, err, sizeof(err));
	if (r < 0) {
		log_error(log, "gateway", NULL, "cannot start: %s", err);
		uv_loop_close(&p.loop);
		return r == -EPERM || r == -EACCES ? EX_NOPERM : EX_UNAVAILABLE;
	}
	start_signals(&p);
	sd_notify(0, "READY=1");
	if (ready_fd >= 0 && (write(ready_fd, "1", 1) != 1 || close(ready_fd) < 0))
		log_warning(log, "gateway", NULL, "the starting process is gone");
	log_notice(log, "gateway", NULL, "arrd " ARRD_VERSION " runs");
	uv_run(&p.loop, UV_RUN_DEFAULT);
	sd_notify(0, "STOPPING=1");
	failed = p.gw->failed;
	stop_signals(&p);
	gateway_stop(p.gw);
	uv_loop_close(&p.loop);
	return failed ? EX_SOFTWARE : EX_OK;
}

/* Under an arrd that runs, nothing is taken away: its replies would fall to the machine's own networks. */
static int cleanup(struct config *conf, struct log *log)
{
	char err[512];
	int status, lock = gateway_lock(conf->gateway.state_dir, err, sizeof(err));

	if (lock == -EBUSY) {
		log_error(log, "egress", NULL, "nothing is removed: %s", err);
		status = EX_UNAVAILABLE;
	} else {
		status = egress_cleanup(conf, log) < 0 ? EX_UNAVAILABLE : EX_OK;
	}
	if (lock >= 0)
		close(lock);
	config_free(conf);
	return status;
}

/* A reload reads the file again, from the background too, whose directory is another. NULL: no memory. */
static char *absolute(const char *file)
{
	char *cwd, *path = NULL;

	if (file[0] == '/')
		return strdup(file);
	cwd = getcwd(NULL, 0);
	if (!cwd || asprintf(&path, "%s/%s", cwd, file) < 0)
		path = NULL;
	free(cwd);
	return path;
}

/* Keys of branches are in this memory: no core file has them, and nobody who runs as the same user looks in. */
static void keep_memory_private(void)
{
	(void)prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L); /* cannot fail with this value */
}

static int load(const char *file, struct config **conf)
{
	char *errors = NULL, *path = absolute(file);
	int r = path ? config_load(path, conf, &errors) : -ENOMEM;

	if (r < 0)
		fputs(errors ? errors : "out of memory\n", stderr);
	free(errors);
	free(path);
	return r;
}

int main(int argc, char **argv)
{
	struct options o;
	struct config *conf;
	struct log *log;
	int status = parse_options(argc, argv, &o), fd = -1;

	if (status >= 0)
		return status;
	keep_memory_private();
	if (sodium_init() < 0)
		return EX_OSERR;
	if (load(o.config, &conf) < 0)
		return EX_CONFIG;
	if (o.check) {
		if (conf->warnings)
			fputs(conf->warnings, stderr);
		printf("%s: %zu tunnels, no errors\n", o.config, conf->ntunnels);
		config_free(conf);
		return EX_OK;
	}
	if (!o.foreground && !o.cleanup) {
		fd = go_background();
		if (fd < 0) {
			config_free(conf);
			return EX_OSERR;
		}
	}
	log = log_open(conf->gateway.log_level);
	if (conf->warnings)
		log_lines(log, LOG_LEVEL_WARNING, "config", NULL, conf->warnings);
	if (o.cleanup) {
		status = cleanup(conf, log);
	} else {
		status = run(conf, log, fd);
	}
	log_close(log);
	return status;
}
