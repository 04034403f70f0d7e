################################################################################
#
# chasq
#
################################################################################

CHASQ_VERSION = 0.1
CHASQ_SOURCE = chasq-$(CHASQ_VERSION).tar.gz
CHASQ_SITE = $(TOPDIR)/../chasq-release
CHASQ_SITE_METHOD = file
CHASQ_LICENSE = ISC
CHASQ_LICENSE_FILES = LICENSE
CHASQ_DEPENDENCIES = host-pkgconf c-ares

ifeq ($(BR2_PACKAGE_CHASQ_TLS),y)
CHASQ_DEPENDENCIES += mbedtls
else
CHASQ_OPTIONS += -DWITH_TLS=0
endif

ifeq ($(BR2_PACKAGE_CHASQ_IDN),y)
CHASQ_DEPENDENCIES += libidn2
else
CHASQ_OPTIONS += -DWITH_IDN=0
endif

CHASQ_MAKE_OPTS = \
	$(TARGET_CONFIGURE_OPTS) \
	OPTIONS="$(CHASQ_OPTIONS)"

define CHASQ_BUILD_CMDS
	$(MAKE) -C $(@D) $(CHASQ_MAKE_OPTS) chasq
endef

define CHASQ_INSTALL_TARGET_CMDS
	$(MAKE) -C $(@D) $(CHASQ_MAKE_OPTS) DESTDIR=$(TARGET_DIR) PREFIX=/usr install
	$(INSTALL) -d -m 0755 $(TARGET_DIR)/etc/chasq/domains
	$(INSTALL) -d -m 0750 $(TARGET_DIR)/etc/chasq/certs
endef

define CHASQ_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(CHASQ_PKGDIR)/S60chasq $(TARGET_DIR)/etc/init.d/S60chasq
endef

define CHASQ_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/packaging/systemd/chasq.service \
		$(TARGET_DIR)/usr/lib/systemd/system/chasq.service
	$(INSTALL) -D -m 0644 $(@D)/packaging/systemd/chasq.tmpfiles \
		$(TARGET_DIR)/usr/lib/tmpfiles.d/chasq.conf
endef

define CHASQ_USERS
	chasq -1 chasq -1 * /var/lib/chasq - - chasq mail server
endef

define CHASQ_PERMISSIONS
	/etc/chasq/certs d 0750 root chasq - - - - -
	/var/lib/chasq d 0711 chasq chasq - - - - -
endef

$(eval $(generic-package))
