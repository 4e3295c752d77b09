from lightning_cnn.callbacks.hyperparameters import hyperparameters

CONFIG = {
    "seed_everything": 3,
    "trainer": {
        "accelerator": "auto",
        "max_epochs": 5,
        "max_steps": -1,
        "precision": "bf16-mixed",
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "default_root_dir": "logs",
        "callbacks": [{"class_path": "lightning_cnn.callbacks.PrintLoss", "init_args": {"every_n_batches": 100}}],
    },
    "model": {
        "class_path": "lightning_cnn.classifiers.CNNClassifier",
        "init_args": {
            "optimizer": {
                "class_path": "torch.optim.Adam",
                "init_args": {
                    "lr": 0.001,
                    "betas": [0.9, 0.999],
                    "amsgrad": False,
                    "weight_decay": 0,
                    "foreach": None,
                    "fused": True,
                    "capturable": False,
                    "differentiable": False,
                },
            },
            "scheduler": None,
            "mean": 0.5,
            "label_smoothing": 0.0,
        },
    },
    "data": {
        "class_path": "lightning_cnn.data.MNISTDataModule",
        "init_args": {
            "data_dir": "/data",
            "batch_size": 64,
            "eval_batch_size": 1000,
            "val_size": 5000,
            "augment": {"class_path": "lightning_cnn.data.augment.CropAndRotate", "init_args": {"degrees": 15.0}},
            "allow_sample": False,
        },
    },
    "plots": {"enabled": True},
    "dashboard": {"enabled": True, "histograms": False},
    "ckpt_path": None,
}


def test_settings_that_change_what_is_learned_are_hyperparameters():
    assert hyperparameters(CONFIG) == {
        "seed_everything": 3,
        "trainer.max_epochs": 5,
        "trainer.max_steps": -1,
        "trainer.precision": "bf16-mixed",
        "trainer.accumulate_grad_batches": 1,
        "model": "CNNClassifier",
        "model.optimizer": "Adam",
        "model.optimizer.lr": 0.001,
        "model.optimizer.betas": "[0.9, 0.999]",
        "model.optimizer.amsgrad": False,
        "model.optimizer.weight_decay": 0,
        "model.mean": 0.5,
        "model.label_smoothing": 0.0,
        "data": "MNISTDataModule",
        "data.batch_size": 64,
        "data.val_size": 5000,
        "data.augment": "CropAndRotate",
        "data.augment.degrees": 15.0,
    }


def test_types_are_kept():
    found = hyperparameters(CONFIG)

    assert type(found["model.optimizer.amsgrad"]) is bool
    assert type(found["model.optimizer.lr"]) is float
    assert type(found["data.batch_size"]) is int


def test_the_config_is_not_changed():
    before = repr(CONFIG)

    hyperparameters(CONFIG)

    assert repr(CONFIG) == before


def test_sections_may_be_missing():
    assert hyperparameters({}) == {}
    assert hyperparameters({"model": None, "data": None, "seed_everything": None}) == {}


def test_a_class_without_arguments_is_given_by_its_name():
    config = {"model": {"class_path": "wide_mlp.WideMLPClassifier"}, "data": {"class_path": "letters.Letters"}}

    assert hyperparameters(config) == {"model": "WideMLPClassifier", "data": "Letters"}


def test_nested_settings_have_dotted_names():
    config = {"model": {"class_path": "Own", "init_args": {"sizes": {"first": 8, "data_dir": "x"}, "names": ["a"]}}}

    assert hyperparameters(config) == {"model": "Own", "model.sizes.first": 8, "model.names": "['a']"}
