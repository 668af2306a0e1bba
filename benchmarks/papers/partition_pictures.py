def run_pog(o):
    raise NotImplementedError


def run_relu(o):
    raise NotImplementedError
