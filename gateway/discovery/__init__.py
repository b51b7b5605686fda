"""Finding gateways by name: mDNS (DNS-SD, RFC 6762 and 6763), and fixed addresses where multicast does not work."""

from gateway.discovery.advertisement import SERVICE_TYPE, Advertisement
from gateway.discovery.advertiser import Advertiser
from gateway.discovery.browser import FoundGateway, Survey, browse, survey
from gateway.discovery.identity import stable_id
from gateway.discovery.instruments import FoundInstrument, Instruments, browse_instruments
from gateway.discovery.interfaces import addresses_for, interfaces_for
from gateway.discovery.lookup import locate, resolve
from gateway.discovery.static import static_gateways

__all__ = [
    "SERVICE_TYPE",
    "Advertisement",
    "Advertiser",
    "FoundGateway",
    "FoundInstrument",
    "Instruments",
    "Survey",
    "addresses_for",
    "browse",
    "browse_instruments",
    "interfaces_for",
    "locate",
    "resolve",
    "stable_id",
    "static_gateways",
    "survey",
]
