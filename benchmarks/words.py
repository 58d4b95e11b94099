"What follows the name of a benchmark: told by `--help`, and refused in one line where it is wrong"

import argparse


class Words(argparse.ArgumentParser):
    "The words of one benchmark, whose page says first what it does"

    def __init__(self, module, page):
        super().__init__(
            prog=f'python -m {module}',
            description=page,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message):
        self.exit(2, f'{self.prog}: {message}; --help says what it takes\n')


def whole_number(word):
    "A whole number of at least 1"
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f'{word!r} is no whole number of at least 1')
    return int(word)


def one_of(*names):
    "A reader of words that takes these names only"

    def read(word):
        if word not in names:
            raise argparse.ArgumentTypeError(f'{word!r} is none of {", ".join(names)}')
        return word

    return read
