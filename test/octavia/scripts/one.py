"""Octavia's API and its worker in one process, since their message bus is in memory."""
import logging
import socketserver
import sys
import wsgiref.simple_server

sys.path.insert(0, '/srv')

from octavia.api import app
from oslo_log import log
# The threads here are real ones. What oslo.log does where eventlet is loaded, as the worker loads it, gives them locks
# that hang for ever when two want one.
log._fix_eventlet_logging = lambda: None
application = app.setup_app(argv=['octavia', '--config-file', '/etc/octavia/octavia.conf'])

import amphora  # noqa: F401: replaces what has no cloud here
import oslo_messaging
from octavia.common import constants
from octavia.common import rpc
from octavia.controller.queue.v2 import endpoints
from oslo_messaging.rpc import dispatcher

rpc.get_server(
    oslo_messaging.Target(topic=constants.TOPIC_AMPHORA_V2, server='one', fanout=False),
    [endpoints.Endpoints()], executor='threading', access_policy=dispatcher.DefaultRPCAccessPolicy,
).start()


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *args):
        pass


wsgiref.simple_server.make_server('127.0.0.1', 9876, application, server_class=Server, handler_class=Handler).serve_forever()
