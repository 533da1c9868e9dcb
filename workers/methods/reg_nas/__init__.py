"""REG-NAS: networks of a supernet that do not break what worked.

R. Duggal, H. Zhou, S. Yang, J. Fang, Y. Xiong, W. Xia: "Towards Regression-Free Neural Networks for
Diverse Compute Platforms", ECCV 2022, with its supplement.

A supernet is trained once (`pretrain`). Then networks of it are searched one after another, each
to its own budget, by evolution: for accuracy, and for few samples that the network before has right
and the new one wrong.

- `supernet_training`, with `supernet_settings`, `shrinking`, `subnet_losses`: the supernet;
- `predictor`: what its networks predict, without being trained;
- `reward`: accuracy and negative flips (Eq. 4); `containment`: networks that contain a reference;
- `limits`: budgets; `evolution`, `nsga2`, `random_draws`: who proposes networks;
- `search`: families of networks; `config`: the settings; `checks`: what is refused at the door.

Read into the paper: R1 is the negative flips alone; a network that contains another sees images of
its size; populations, generations and their shares are Once-for-all's, or stated in the settings.
"""

from workers.methods.reg_nas.checks import check
from workers.methods.reg_nas.config import Config
from workers.methods.reg_nas.predictor import predictor
from workers.methods.reg_nas.search import search
from workers.methods.reg_nas.supernet_training import pretrain
from workers.protocol import Method
from workers.training import finish

__all__ = ["METHOD", "Config"]

METHOD = Method(
    "reg_nas",
    Config,
    search,
    finish,
    pretrain,
    check=check,
    predictor=predictor,
    predicts_by=("calibration_images",),
)
