"""HTTP clients."""

_HTTPX: dict[str, str] = {
    "external.bad_body": "DecodingError",
    "external.connect": "ConnectError ProxyError",
    "external.pool": "PoolTimeout",
    "external.protocol": "ProtocolError RemoteProtocolError",
    "external.reset": "CloseError ReadError WriteError",
    "external.timeout": "ReadTimeout TimeoutException WriteTimeout",
    "external.timeout_connect": "ConnectTimeout",
    "external.unavailable": "HTTPError NetworkError RequestError TransportError",
    "internal.bug": """
        CookieConflict InvalidURL LocalProtocolError RequestNotRead ResponseNotRead StreamClosed
        StreamConsumed StreamError UnsupportedProtocol""",
    "validation.rejected": "HTTPStatusError TooManyRedirects",
}

CLASSES: dict[str, dict[str, str]] = {
    "httpx": _HTTPX,
    "httpx2": {**_HTTPX, "external.bad_body": "DecodingError SSEError"},
    "requests.exceptions": {
        "external.bad_body": "ContentDecodingError JSONDecodeError",
        "external.connect": "ProxyError",
        "external.reset": "ChunkedEncodingError",
        "external.timeout": "ReadTimeout Timeout",
        "external.timeout_connect": "ConnectTimeout",
        "external.tls": "SSLError",
        "external.unavailable": "ConnectionError RequestException RetryError",
        "internal.bug": """
            InvalidHeader InvalidJSONError InvalidProxyURL InvalidSchema InvalidURL MissingSchema
            RequestsWarning StreamConsumedError URLRequired UnrewindableBodyError""",
        "validation.rejected": "HTTPError TooManyRedirects",
    },
    "urllib3.exceptions": {
        "external.bad_body": "DecodeError",
        "external.connect": "NewConnectionError ProxyError",
        "external.dns": "NameResolutionError",
        "external.pool": "EmptyPoolError FullPoolError",
        "external.protocol": "HeaderParsingError InvalidChunkLength ResponseNotChunked",
        "external.reset": "IncompleteRead ProtocolError",
        "external.timeout": "ReadTimeoutError TimeoutError",
        "external.timeout_connect": "ConnectTimeoutError",
        "external.tls": "SSLError",
        "external.unavailable": "HTTPError MaxRetryError PoolError RequestError ResponseError",
        "internal.bug": """
            BodyNotHttplibCompatible ClosedPoolError HTTPWarning HostChangedError InvalidHeader
            LocationParseError LocationValueError ProxySchemeUnknown ProxySchemeUnsupported TimeoutStateError
            URLSchemeUnknown UnrewindableBodyError""",
    },
    "aiohttp.client_exceptions": {
        "external.bad_body": "ContentTypeError",
        "external.connect": "ClientConnectorError ClientHttpProxyError ClientProxyConnectionError",
        "external.dns": "ClientConnectorDNSError",
        "external.reset": """
            ClientConnectionResetError ClientPayloadError ServerDisconnectedError UploadAbortedError""",
        "external.timeout": "ServerTimeoutError SocketTimeoutError",
        "external.timeout_connect": "ConnectionTimeoutError",
        "external.tls": """
            ClientConnectorCertificateError ClientConnectorSSLError ClientSSLError
            ServerFingerprintMismatch""",
        "external.unavailable": """
            ClientConnectionError ClientError ClientOSError ClientResponseError ServerConnectionError
            WSServerHandshakeError""",
        "internal.bug": "InvalidURL NonHttpUrlClientError WSMessageTypeError",
        "validation.rejected": """
            InvalidUrlRedirectClientError NonHttpUrlRedirectClientError RedirectClientError
            TooManyRedirects""",
    },
    "http.client": {
        "external.protocol": """
            BadStatusLine HTTPException LineTooLong UnknownProtocol UnknownTransferEncoding""",
        "external.reset": "IncompleteRead RemoteDisconnected",
        "internal.bug": "ImproperConnectionState InvalidURL NotConnected UnimplementedFileMode",
    },
    "urllib.error": {
        "external.reset": "ContentTooShortError",
        "external.unavailable": "URLError",
        "validation.rejected": "HTTPError",
    },
}

INNER: dict[str, str] = {
    # httpcore raises with ``from None`` while the socket's own error stays in the context.
    "httpcore.ConnectError": "__context__",
    "httpcore2.ConnectError": "__context__",
    # requests raises while it handles urllib3's exception, and names no cause.
    "requests.exceptions.ConnectionError": "__context__",
    "urllib.error.URLError": "reason",
    "urllib3.exceptions.MaxRetryError": "reason",
}

_HOST = "request.url.host"
TELLING: dict[str, str] = {
    **dict.fromkeys(("httpx.HTTPStatusError", "httpx2.HTTPStatusError"), f"response.status_code {_HOST}"),
    **dict.fromkeys(("httpx.RequestError", "httpx2.RequestError"), _HOST),
}

STATUS: dict[str, str] = {
    "aiohttp.client_exceptions.ClientResponseError": "status",
    "urllib.error.HTTPError": "code",
}
