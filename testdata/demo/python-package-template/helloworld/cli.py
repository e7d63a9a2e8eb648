"""The command line."""

import argparse

from helloworld.fizzbuzz import fizzbuzz


def main():
    parser = argparse.ArgumentParser(prog="helloworld")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fizzbuzz", help="count")
    command.add_argument("-n", type=int, default=10, help="how far")
    args = parser.parse_args()
    print("\n".join(fizzbuzz(args.n)))


if __name__ == "__main__":
    main()
