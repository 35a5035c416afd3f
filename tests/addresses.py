"""Addresses of tracking stores that contain a password. Most of them are malformed."""

WITH_PASSWORDS = (
    "http://user:s3cr3t/PW@127.0.0.1:9",
    "http://127.0.0.1:9/?api_key=s3cr3t",
    "http:///user:s3cr3t@",
    "http://user:s3cr3t@127.0.0.1:9",
    "postgresql://user:a@s3cr3t:b@127.0.0.1:9/db",
    "user:s3cr3t@127.0.0.1:9",
)
