"""Learning and asking: fit, evaluate, score, select. Pure torch and numpy, usable in a notebook without the rest.

``learner.step`` is the one loop step. Networks, posteriors, acquisitions, selections and fittings are packages of one
module a choice, each with a registry that carries exactly the names of the catalogue in ``app.recipes``. Importing this
package imports no torch, so ``oracle``, ``evaluation`` and ``curves`` work where only numpy is installed.
"""
