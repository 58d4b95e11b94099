"""Stubs for editors and type checkers, written beside the modules: signatures, docstrings and attributes, no bodies.

    python tools/stubs.py          # beside the modules of this checkout
    python tools/stubs.py FOLDER   # beside the modules of a package that lies in FOLDER

Nothing is imported, so this runs wherever the package is built. Three things are written out that a type checker
cannot see in the code: methods added with `@patch`, methods that a later page writes (`core.later`), and attributes
that `__init__` sets.
"""

import ast
import copy
import sys
from pathlib import Path

root = Path(__file__).resolve().parents[1]
functions = (ast.FunctionDef, ast.AsyncFunctionDef)
kept_decorators = {
    'property',
    'cached_property',
    'setter',
    'classmethod',
    'staticmethod',
    'dataclass',
    'contextmanager',
    'asynccontextmanager',
    'total_ordering',
}
kinds = {int: 'int', str: 'str', bool: 'bool', float: 'float', bytes: 'bytes'}


def name_of(node):
    "The last name of a decorator, an annotation or what is called"
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, 'id', None)


def expression(text):
    return ast.parse(text, mode='eval').body


# ## Functions


def without_body(node, first=None):
    "A function as a stub shows it; `first` renames its first parameter, for a function that becomes a method"
    node = copy.deepcopy(node)
    docstring = ast.get_docstring(node, clean=False)
    node.body = [ast.Expr(ast.Constant(docstring))] if docstring else []
    node.body.append(ast.Expr(ast.Constant(...)))
    node.decorator_list = [d for d in node.decorator_list if name_of(d) in kept_decorators]
    if first:
        parameters = node.args.posonlyargs or node.args.args
        parameters[0].arg, parameters[0].annotation = first, None
    for parameter, default in defaults_of(node.args):
        if parameter.annotation is not None and is_none(default):
            parameter.annotation = with_none(parameter.annotation)
    if node.returns is None and node.name == '__init__':
        node.returns = ast.Constant(None)
    return node


def defaults_of(args):
    "Parameters with a default, each with it"
    positional = [*args.posonlyargs, *args.args]
    yield from zip(positional[len(positional) - len(args.defaults) :], args.defaults)
    yield from ((a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults) if d is not None)


def is_none(node):
    return isinstance(node, ast.Constant) and node.value is None


def with_none(annotation):
    "`T | None` for `T`"
    text = ast.unparse(annotation)
    return annotation if 'None' in text or 'Any' in text else expression(f'{text} | None')


# ## Classes


def attributes_set(method):
    "Names that a method sets on its first parameter, each with a type, which is Any where it is not plain"
    if not isinstance(method, functions) or not (method.args.posonlyargs or method.args.args):
        return
    me = (method.args.posonlyargs or method.args.args)[0].arg
    types = {a.arg: a.annotation for a in [*method.args.args, *method.args.kwonlyargs]}
    optional = {a.arg for a, default in defaults_of(method.args) if is_none(default)}
    for node in ast.walk(method):
        if isinstance(node, ast.AnnAssign):
            pairs = [(node.target, node.annotation)]
        elif isinstance(node, ast.Assign):
            pairs = [p for target in node.targets for p in matched(target, node.value)]
            pairs = [(t, type_of_value(v, types, optional)) for t, v in pairs]
        else:
            continue
        for target, kind in pairs:
            owner = getattr(target, 'value', None)
            if isinstance(target, ast.Attribute) and getattr(owner, 'id', None) == me:
                yield target.attr, kind


def matched(target, value):
    "Targets of an assignment, each with its value where that can be told"
    if not isinstance(target, ast.Tuple):
        return [(target, value)]
    values = getattr(value, 'elts', [])
    values = values if len(values) == len(target.elts) else [None] * len(target.elts)
    return list(zip(target.elts, values))


def type_of_value(value, types, optional):
    "The annotation of an attribute by what is set: a parameter, a constant or a new object"
    if isinstance(value, ast.Name) and types.get(value.id) is not None:
        kind = types[value.id]
        return with_none(kind) if value.id in optional else kind
    if isinstance(value, ast.Constant) and type(value.value) in kinds:
        return expression(kinds[type(value.value)])
    return expression('Any')


def class_stub(node, added):
    "A class with methods without bodies, those `added` from elsewhere, and attributes that methods set"
    out = copy.copy(node)
    out.decorator_list = [d for d in node.decorator_list if name_of(d) in kept_decorators]
    methods = [n for n in [*node.body, *added] if isinstance(n, functions)]
    out.body = [class_member(n) for n in node.body]
    out.body += [without_body(n) for n in added]
    have = {n.name for n in out.body if isinstance(n, (*functions, ast.ClassDef))}
    have |= {name for n in out.body for name in assigned(n)}
    found = {}
    for method in methods:
        for name, kind in attributes_set(method):
            same = name not in found or ast.dump(found[name]) == ast.dump(kind)
            found[name] = kind if same else expression('Any')
    declared = [
        ast.AnnAssign(ast.Name(name), kind, None, 1)
        for name, kind in found.items()
        if name not in have
    ]
    start = 1 if ast.get_docstring(node) else 0
    out.body[start:start] = declared
    out.body = out.body or [ast.Expr(ast.Constant(...))]
    return out


def class_member(node):
    if isinstance(node, functions):
        return without_body(node)
    return class_stub(node, []) if isinstance(node, ast.ClassDef) else node


def assigned(node):
    "Names that a statement assigns"
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    targets = node.targets if isinstance(node, ast.Assign) else []
    parts = [t for target in targets for t in getattr(target, 'elts', [target])]
    return [t.id for t in parts if isinstance(t, ast.Name)]


# ## Methods written elsewhere


def patched(node):
    "Classes to which a function is added with `@patch`, and the method that it becomes"
    found = [d for d in node.decorator_list if name_of(d) == 'patch']
    annotation = (node.args.posonlyargs or node.args.args or [None])[0]
    if not found or annotation is None or annotation.annotation is None:
        return [], node
    classes = getattr(annotation.annotation, 'elts', [annotation.annotation])
    options = {k.arg for d in found for k in getattr(d, 'keywords', [])}
    method = copy.deepcopy(node)
    (method.args.posonlyargs or method.args.args)[0].annotation = None
    extra = {'as_prop': 'property', 'cls_method': 'classmethod'}
    method.decorator_list = [
        *(d for d in node.decorator_list if name_of(d) != 'patch'),
        *(ast.Name(extra[o]) for o in options & set(extra)),
    ]
    return [ast.unparse(c) for c in classes], method


def written_later(node, methods, modules):
    "Methods of a class that a later page writes, and the modules whose names their signatures use"
    added, used = [], []
    for name, prop in ((n, p) for n, p in later_names(node)):
        place = methods.get(f'{node.name}.{name}')
        if place is None:
            continue
        module, _, function = place.partition(':')
        source = next(
            (n for n in modules[module].body if isinstance(n, functions) and n.name == function),
            None,
        )
        if source is None:
            raise SystemExit(f'LATER_METHODS: {module} has no function {function}')
        method = without_body(source, 'self')
        method.name = name
        if prop:
            method.decorator_list = [ast.Name('property')]
        added.append(method)
        used.append((module, source))
    return added, used


def later_names(node):
    "Attributes of a class that are `later()`, and whether each is a property"
    for n in node.body:
        if (
            isinstance(n, ast.Assign)
            and isinstance(n.value, ast.Call)
            and name_of(n.value) == 'later'
        ):
            given = [*n.value.args, *(k.value for k in n.value.keywords)]
            for name in assigned(n):
                yield name, any(getattr(a, 'value', False) for a in given)


def names_used(function):
    "Names in the annotations and defaults of a function"
    parts = [a.annotation for a in ast.walk(function.args) if isinstance(a, ast.arg)]
    parts += [function.returns, *function.args.defaults, *function.args.kw_defaults]
    return {name for part in parts if part is not None for name in names_in(part)}


def names_in(node):
    "Names in an expression, in annotations that are written as text too"
    for n in ast.walk(node):
        if isinstance(n, ast.Name):
            yield n.id
        elif isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value.isidentifier():
            yield n.value


def import_of(name, module, tree):
    "The import that makes a name of one module known in another; None for a built-in one"
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return absolute(node, alias, module)
        elif getattr(node, 'name', None) == name or name in assigned(node):
            return ast.parse(f'from astrid_data.{module} import {name}').body[0]
    return None


def absolute(node, alias, module):
    "The import of one name, without dots at its beginning"
    out = copy.copy(node)
    out.names = [alias]
    if getattr(node, 'level', 0):
        parts = ['astrid_data', *module.split('.')][: -node.level]
        out.module, out.level = '.'.join([*parts, *filter(None, [node.module])]), 0
    return out


# ## Modules


def set_on_classes(tree):
    "Functions that a module sets on one of its classes, as (class, method): `Class.name = function`"
    known = {n.name: n for n in tree.body if isinstance(n, functions)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target, value in (p for t in targets for p in matched(t, node.value)):
            function = known.get(getattr(value, 'id', None))
            if isinstance(target, ast.Attribute) and function is not None:
                method = without_body(function)
                method.name = target.attr
                yield ast.unparse(target.value), method


def imports_of_classes(body, modules):
    "Imports of our classes that annotations name and the module does not know"
    nodes = [n for part in body for n in ast.walk(part)]
    known = {n.name for n in nodes if isinstance(n, (*functions, ast.ClassDef))}
    known |= {
        a.asname or a.name for n in nodes for a in getattr(n, 'names', []) if hasattr(a, 'name')
    }
    used = {name for n in nodes if isinstance(n, functions) for name in names_used(n)}
    for module, tree in modules.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name in used - known:
                yield from ast.parse(f'from astrid_data.{module} import {node.name}').body


def later_table(modules):
    "`core.LATER_METHODS`, read and not imported"
    for node in modules['core'].body if 'core' in modules else []:
        if 'LATER_METHODS' in assigned(node):
            return ast.literal_eval(node.value)
    return {}


def module_stub(module, modules, methods):
    "The stub of one module as text"
    tree = modules[module]
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    added = {name: [] for name in classes}
    imports, body, seen = [], [], set()
    for node in tree.body:
        if isinstance(node, functions):
            owners, method = patched(node)
            for owner in owners:
                added.get(owner, []).append(method)
            if not owners:
                body.append(without_body(node))
        elif isinstance(node, (ast.ClassDef, ast.Import, ast.ImportFrom, ast.If, ast.Try)):
            body.append(node)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and assigned(node) != ['__all__']:
            if assigned(node):
                body.append(node)
        elif isinstance(node, ast.Assign) and assigned(node) == ['__all__']:
            body.append(node)
    for owner, method in set_on_classes(tree):
        added.get(owner, []).append(method)
    for name, node in classes.items():
        late, used = written_later(node, methods, modules)
        names = {m.name for m in late}
        kept = [n for n in node.body if not names & set(assigned(n))]
        whole = copy.copy(node)
        whole.body = kept
        body[body.index(node)] = class_stub(whole, [*added[name], *late])
        for place, function in used:
            for wanted in sorted(names_used(function)):
                found = import_of(wanted, place, modules[place])
                if found is not None and import_of(wanted, module, tree) is None:
                    text = ast.unparse(found)
                    if text not in seen:
                        seen.add(text)
                        imports.append(found)
    imports += imports_of_classes([*imports, *body], modules)
    out = ast.Module([*ast.parse('from typing import Any').body, *imports, *body], [])
    return ast.unparse(ast.fix_missing_locations(out)) + '\n'


def write_stubs(lib):
    "Write the stubs of the package in folder `lib`; returns how many"
    paths = {
        '.'.join(p.relative_to(lib).with_suffix('').parts): p
        for p in sorted(lib.rglob('*.py'))
        if p.name != '__init__.py' and not {'migrations', 'sample'} & set(p.parts)
    }
    paths = {name: p for name, p in paths.items() if not p.stem.startswith('_')}
    modules = {name: ast.parse(p.read_text(encoding='utf-8')) for name, p in paths.items()}
    for old in lib.rglob('*.pyi'):
        if old.name != '__init__.pyi':
            old.unlink()
    methods = later_table(modules)
    for name, path in paths.items():
        path.with_suffix('.pyi').write_text(module_stub(name, modules, methods), encoding='utf-8')
    return len(paths)


if __name__ == '__main__':
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else root
    print(write_stubs(folder / 'astrid_data'), 'stubs written')
