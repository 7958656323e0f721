/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike.c - starts and stops libcharon within this process.
 *
 * Nothing of strongSwan's configuration is read: its settings are set here, its plugins are those of one list. Kernel,
 * socket, backend and credentials are ours (ike_kernel.c, ike_net.c, ike_socket.c, ike_conn.c, ike_creds.c, ike_certs.c).
 */
#include "ipsec/ike_private.h"
#include "ipsec/ike_version.h"

#include <plugins/plugin_feature.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <swan_version.h>
#include <sys/mman.h>
#include <unistd.h>

/* Without "revocation": nothing here fetches CRLs or asks OCSP. All that it would heed is what a peer sends of itself, and it
 * would log for each certificate that its status is not available. */
#define PLUGINS     "random nonce openssl pem x509 constraints pubkey pkcs1 pkcs8 hmac kdf"
#define DPKG_STATUS "/var/lib/dpkg/status"
#define THREADS_MIN 8
#define NO_LIMIT    1000000

/* ---- version ---------------------------------------------------------------------------------------- */

const char *ike_version(void)
{
	return SWAN_VERSION;
}

/* ---- settings --------------------------------------------------------------------------------------- */

/* libstrongswan reads some of them while it starts, so there has to be a file: one in memory. Returns its descriptor or
 * -errno. */
static int write_settings(const struct ike_options *o)
{
	uint32_t block = o->block_threshold ? o->block_threshold : NO_LIMIT;
	int fd = memfd_create("charon", MFD_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = dprintf(fd,
		"charon {\n"
		"threads = %u\n"
		"ikesa_table_size = 8192\n"
		"ikesa_table_segments = 16\n"
		/* A connection has its own IKE_SAs, and ike_steer.c knows whether there is one. */
		"reuse_ikesa = no\n"

		"cookie_threshold = %u\n"
		"cookie_threshold_ip = %u\n"
		"block_threshold = %u\n"
		"init_limit_half_open = %u\n"

		/* Silence is death after 2 + 3.2 + 5.1 + 8.2 + 13.1 seconds. */
		"retransmit_tries = 4\n"
		"retransmit_timeout = 2.0\n"
		"retransmit_base = 1.6\n"

		/* Reauthentication has no gap, but may lose a packet or two; it is of one round only. */
		"make_before_break = yes\n"
		"multiple_authentication = no\n"
		"follow_redirects = no\n"
		"flush_auth_cfg = yes\n"
		/* What was kept of one peer's certificate would be tried, and complained of, for another. */
		"cert_cache = no\n"
		"plugins {\nopenssl {\nload_legacy = no\n}\n}\n"
		"}\n",
		/* An address is asked for cookies at half of what it is blocked at, and at 1 where that is 1: 0 is never. */
		o->threads < THREADS_MIN ? THREADS_MIN : o->threads, o->cookie_threshold,
		block / 2 + block % 2, block, o->half_open_max);
	if (ret < 0) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* ---- start ------------------------------------------------------------------------------------------ */

static void add_features(void)
{
	plugin_feature_t features[] = {
		PLUGIN_CALLBACK(kernel_ipsec_register, ike_kernel_create),
		PLUGIN_PROVIDE(CUSTOM, "kernel-ipsec"),
		PLUGIN_CALLBACK(kernel_net_register, ike_net_create),
		PLUGIN_PROVIDE(CUSTOM, "kernel-net"),
		PLUGIN_CALLBACK(socket_register, ike_socket_create),
		PLUGIN_PROVIDE(CUSTOM, "socket"),
	};

	lib->plugins->add_static_features(
		lib->plugins, "arrd", features, sizeof(features) / sizeof(features[0]), TRUE, NULL, NULL);
}

static struct ike *ike_new(const struct ike_options *o)
{
	struct ike *ike = calloc(1, sizeof(*ike));

	if (!ike)
		return NULL;
	ike->box = o->box;
	ike->sad = o->sad;
	ike->keys = o->keys;
	memcpy(ike->sock, o->sock, sizeof(ike->sock));
	pthread_mutex_init(&ike->lock, NULL);
	ike_backend_init(ike);
	ike_creds_init(ike);
	ike_bus_init(ike);
	return ike;
}

static void ike_free(struct ike *ike)
{
	pthread_mutex_destroy(&ike->lock);
	free(ike);
}

/* Signals are the loop's: threads begun here, and threads that they begin, must not take any. */
static void block_signals(sigset_t *before)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static int begin(struct ike *ike, const struct ike_options *o, char *err, size_t errlen)
{
	char path[64];
	int fd = write_settings(o);
	bool good;

	if (fd < 0) {
		snprintf(err, errlen, "no file in memory for libstrongswan's settings: %s", strerror(-fd));
		return fd;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	dbg_default_set_level(LEVEL_SILENT);
	good = library_init(path, "charon");
	close(fd);
	if (!good) {
		snprintf(err, errlen, "libstrongswan does not start");
		library_deinit();
		return -EIO;
	}
	lib->set(lib, "arrd", ike);
	if (!libcharon_init()) {
		snprintf(err, errlen, "libcharon does not start");
		goto fail;
	}
	if (ike_log_start(ike, o->log_level)) {
		snprintf(err, errlen, "no memory");
		goto fail;
	}
	add_features();
	if (!charon->initialize(charon, PLUGINS)) {
		snprintf(err, errlen, "libcharon does not start: a plugin of '%s' is missing", PLUGINS);
		ike_log_stop(ike);
		goto fail;
	}
	charon->backends->add_backend(charon->backends, &ike->backend);
	lib->credmgr->add_set(lib->credmgr, &ike->creds);
	charon->bus->add_listener(charon->bus, &ike->listener);
	ike_steer_start(ike);
	charon->start(charon);
	return 0;

fail:
	libcharon_deinit();
	library_deinit();
	return -EIO;
}

int ike_start(struct ike **out, const struct ike_options *o, char *err, size_t errlen)
{
	struct ike *ike;
	sigset_t before;
	int ret;

	ret = ike_version_check_file(DPKG_STATUS, SWAN_VERSION, err, errlen);
	if (ret)
		return ret;
	if (lib) {
		snprintf(err, errlen, "libstrongswan is in use in this process already");
		return -EALREADY;
	}
	ike = ike_new(o);
	if (!ike) {
		snprintf(err, errlen, "no memory");
		return -ENOMEM;
	}
	block_signals(&before);
	ret = begin(ike, o, err, errlen);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret) {
		ike_free(ike);
		return ret;
	}
	*out = ike;
	return 0;
}

/* ---- stop ------------------------------------------------------------------------------------------- */

void ike_stop(struct ike *ike)
{
	if (!ike)
		return;
	/* From here on the socket sends nothing: libcharon says DELETE to everybody when it ends. */
	atomic_store(&ike->stopping, true);
	charon->bus->remove_listener(charon->bus, &ike->listener);
	charon->backends->remove_backend(charon->backends, &ike->backend);
	lib->credmgr->remove_set(lib->credmgr, &ike->creds);
	ike_log_stop(ike);
	libcharon_deinit();

	ike_conns_free(ike);
	ike_kernel_free(ike);
	library_deinit();
	ike_free(ike);
}
