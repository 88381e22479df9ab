"""Makes certificates for tests: an authority, and what it has signed.

    certificates.py FOLDER AUTHORITY [NAME[=COMMON_NAME[,URI...]] ...]

writes FOLDER/AUTHORITY.crt, and for each name NAME.crt and NAME.key; each is good for localhost and 127.0.0.1 if its name
is `server`. An authority whose AUTHORITY.key is there already goes on.
"""

import datetime
import ipaddress
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BEGIN = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
END = datetime.datetime(2100, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self.name, key_file = common_name(name), folder / f"{name}.key"
        if key_file.exists():
            self.key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            return
        self.key = ec.generate_private_key(ec.SECP256R1())
        constraints = (x509.BasicConstraints(ca=True, path_length=None), True)
        write(folder, name, self.sign(self.name, self.key, [constraints]), self.key)

    def sign(self, subject: x509.Name, key, extensions: list) -> x509.Certificate:
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number(), BEGIN, END)
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        return builder.sign(self.key, hashes.SHA256())


def write(folder: Path, name: str, certificate: x509.Certificate, key) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption())
    )


def main(folder: Path, authority_name: str, *wanted: str) -> None:
    authority = Authority(folder, authority_name)
    for text in wanted:
        name, _, rest = text.partition("=")
        subject, *uris = (rest or name).split(",")
        alternatives = [x509.UniformResourceIdentifier(uri) for uri in uris]
        if name.startswith("server"):
            local = ipaddress.ip_address("127.0.0.1")
            alternatives += [x509.DNSName("localhost"), x509.IPAddress(local)]
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [(x509.SubjectAlternativeName(alternatives), False)] if alternatives else []
        write(folder, name, authority.sign(common_name(subject), key, extensions), key)


main(Path(sys.argv[1]), *sys.argv[2:])
